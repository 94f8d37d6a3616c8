// What the tests share.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { Tutor } from 'neuro-tutor'

export const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

/** A directory that is removed after the test. */
export function directory(t) {
  const path = mkdtempSync(join(tmpdir(), 'neuro-tutor-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A tutor in memory, closed after the test. */
export async function open(t, ...providers) {
  const tutor = await Tutor.open('memory:', { providers, limits: { closeGraceMs: 0 } })
  t.after(() => tutor.close())
  return tutor
}

/** A provider that yields these. */
export function yields(...deltas) {
  return {
    name: 'mine',
    async *stream() {
      yield* deltas
    },
  }
}

/** A provider that yields some text, then waits until it is stopped; and what became of it. */
export function endless(text = 'once upon a time') {
  const seen = { signal: undefined, started: deferred(), finished: deferred() }
  return {
    name: 'endless',
    seen,
    async *stream(_request, { signal }) {
      seen.signal = signal
      seen.started.resolve()
      try {
        yield text
        await once(signal, 'abort')
      } finally {
        seen.finished.resolve()
      }
    },
  }
}

/** A promise and its ends. */
export function deferred() {
  let resolve, reject
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]))
  return { promise, resolve, reject }
}

/** Everything that an iterable yields. */
export async function all(iterable) {
  const items = []
  for await (const item of iterable) items.push(item)
  return items
}

/** The text of some events. */
export const textOf = (events) =>
  events
    .filter((event) => event.type === 'text.delta')
    .map((event) => event.text)
    .join('')

/** Runs a program as a process of its own; it is killed after `limit` milliseconds. */
export async function run(source, { cwd = PACKAGE, args = ['--input-type=module', '-e', source], env = {}, limit = 20_000 } = {}) {
  const child = spawn(process.execPath, args, { cwd, env: { ...process.env, ...env } })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => (output[name] += data))
  const kill = setTimeout(() => child.kill('SIGKILL'), limit)
  const [code, signal] = await once(child, 'close')
  clearTimeout(kill)
  return { code, signal, ...output }
}

/** A directory of a user who has installed this package, with a copy of an example in it; and that as a module. */
export async function project(t, example) {
  const path = directory(t)
  mkdirSync(join(path, 'node_modules'))
  symlinkSync(PACKAGE, join(path, 'node_modules', 'neuro-tutor'))
  const copy = join(path, basename(example))
  cpSync(example, copy)
  return { path, module: await import(pathToFileURL(copy)) }
}
