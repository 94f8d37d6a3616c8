// `npx neuro-tutor`, as far as it differs from the binary: how it gets into a process and out of it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test from 'node:test'

import { Tutor } from 'neuro-tutor'

import { directory, PACKAGE } from './support.mjs'

const BIN = join(PACKAGE, 'dist', 'bin.js')

function start(t, args, options = {}) {
  const child = spawn(process.execPath, [BIN, ...args], { env: { PATH: process.env.PATH }, ...options })
  t.after(() => child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => (output[name] += data))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...output }))
  return { child, ended }
}

const cli = (t, args, options) => start(t, args, options).ended

test('the command line has the exit codes and the streams of the binary', async (t) => {
  const cwd = directory(t)
  const version = await cli(t, ['--version'])
  assert.deepEqual([version.code, version.stdout], [0, 'neuro-tutor 0.1.0\n'])
  const help = await cli(t, ['--help'])
  assert.equal(help.code, 0)
  assert.match(help.stdout, /serve[^]*doctor[^]*export/)
  const wrong = await cli(t, ['--no-such-option'])
  assert.deepEqual([wrong.code, wrong.stdout], [2, ''])
  assert.match(wrong.stderr, /--no-such-option/)
  const absent = await cli(t, ['config', '--config', 'absent.toml'], { cwd })
  assert.notEqual(absent.code, 0)
  assert.match(absent.stderr, /absent\.toml/)
})

test('what one face stores the command line exports', async (t) => {
  const cwd = directory(t)
  const tutor = await Tutor.open(join(cwd, 'data'))
  await tutor.chat('Why is the sky blue?')
  await tutor.close()
  const { code, stdout, stderr } = await cli(t, ['export', '--data', 'data'], { cwd })
  assert.equal(code, 0, stderr)
  assert.match(stdout, /Why is the sky blue\?/)
  assert.ok(stdout.endsWith('\n'))
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`a server ends by ${signal} with code 0, and its data is free`, async (t) => {
    const cwd = directory(t)
    const { child, ended } = start(t, ['serve', '--port', '0', '--data', 'data'], { cwd })
    const url = await new Promise((resolve) => {
      createInterface(child.stdout).on('line', (line) => {
        const found = /http:\/\/127\.0\.0\.1:\d+$/.exec(line)
        if (found) resolve(found[0])
      })
    })
    assert.equal((await fetch(url)).status, 200)
    child.kill(signal)
    const { code, signal: by } = await ended
    assert.deepEqual([code, by], [0, null])
    const tutor = await Tutor.open(join(cwd, 'data'))
    await tutor.close()
  })
}
