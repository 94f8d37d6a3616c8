// The real server binary, on a port and a data directory of its own.

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** Starts a server; `stop` ends it. The demo provider pauses `delay` milliseconds between words. */
export async function serve({ delay = 0 } = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'neuro-tutor-'))
  const { PATH, HOME, LLVM_PROFILE_FILE, TUTOR_TEST_LOGS } = process.env
  const child = spawn(process.env.NEURO_TUTOR, ['--port', '0'], {
    cwd: directory,
    env: { PATH, HOME, ...(LLVM_PROFILE_FILE && { LLVM_PROFILE_FILE }), DEMO_DELAY_MS: String(delay), LOG_LEVEL: TUTOR_TEST_LOGS ? 'trace' : 'info' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Where all output of the test run is looked through, the log is a part of it.
  if (TUTOR_TEST_LOGS) {
    await mkdir(TUTOR_TEST_LOGS, { recursive: true })
    child.stderr.pipe(createWriteStream(join(TUTOR_TEST_LOGS, `node-${randomUUID()}.log`)))
  } else {
    child.stderr.resume()
  }
  const exited = new Promise((resolve) => child.once('exit', resolve))
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = /http:\/\/[\d.]+:\d+/.exec(line)
      if (match) resolve(match[0])
    })
    exited.then((code) => reject(new Error(`the server did not start: ${code}`)))
  })
  const get = async (path) => (await fetch(url + path)).json()
  const stop = async () => {
    child.kill('SIGTERM')
    await exited
    await rm(directory, { recursive: true })
  }
  return { url, get, stop }
}
