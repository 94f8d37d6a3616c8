import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'

import { TutorError } from 'neuro-tutor'

import { open } from './support.mjs'

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8')

/** The codes as the engine has them. */
const CODES = [...read('../../../tutor-core/src/error.rs').matchAll(/Self::\w+ => "([a-z_]+)"/g)].map(([, code]) => code)

test('every code of the engine is declared, and no other', () => {
  assert.ok(CODES.length >= 20)
  const union = /export type ErrorCode =([^]*?)\n\n/.exec(read('../ts/errors.ts'))[1]
  const declared = [...union.matchAll(/\| '([a-z_]+)'/g)].map(([, code]) => code)
  assert.deepEqual(declared.sort(), CODES.toSorted())
})

for (const code of CODES) {
  test(`${code} crosses to the engine and back`, async (t) => {
    const thrown = new TutorError(code, 'a sentence', { retryable: true, retryAfterMs: 7, context: { is: 'not taken' } })
    const tutor = await open(t, { name: 'mine', stream() { throw thrown } })
    await assert.rejects(tutor.chat('hello'), (error) => {
      assert.ok(error instanceof TutorError && error instanceof Error)
      const { name, message, retryable, retryAfterMs, cause } = error
      assert.deepEqual([error.code, name, message, retryable, retryAfterMs], [code, 'TutorError', 'a sentence', true, 7])
      assert.equal(cause, thrown)
      assert.deepEqual(Object.keys(error.context).sort(), ['provider', 'session', 'turn'])
      // The stack leads to the caller.
      assert.match(error.stack, /errors\.test\.mjs/)
      return true
    })
  })
}

test('an error has defaults', () => {
  const error = new TutorError('conflict', 'busy')
  assert.deepEqual([error.retryable, error.retryAfterMs, error.cause], [false, undefined, undefined])
  assert.deepEqual(error.context, {})
  assert.equal(String(error), 'TutorError: busy')
})

test('an engine without room says when to come back', async (t) => {
  const { Tutor } = await import('neuro-tutor')
  const { endless } = await import('./support.mjs')
  const tutor = await Tutor.open('memory:', { providers: [endless()], limits: { maxLiveTurns: 1, closeGraceMs: 0 } })
  t.after(() => tutor.close())
  const stream = tutor.stream('a')
  await stream.next()
  await assert.rejects(tutor.chat('b'), { code: 'overloaded', retryable: true, retryAfterMs: 1000 })
  await stream.return()
})
