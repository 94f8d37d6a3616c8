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

test('what a provider calls its request, and the status that it answered, reach the caller', async (t) => {
  const thrown = (context) => new TutorError('provider_rejected', 'no', { context })
  const facts = async (context) => {
    const tutor = await open(t, { name: 'mine', stream() { throw thrown(context) } })
    const error = await tutor.chat('hello').catch((error) => error)
    const { provider: _, session: __, turn: ___, ...rest } = error.context
    return [error.requestId, rest]
  }
  assert.deepEqual(await facts({ requestId: 'req-1', request_id: 'req-2', status: '418', field: 'x' }), ['req-1', { field: 'x', requestId: 'req-1', status: '418' }])
  assert.deepEqual(await facts({ request_id: 'req-2', status: 418 }), ['req-2', { requestId: 'req-2', status: '418' }])
  assert.deepEqual(await facts({ requestId: "the learner's words", status: 'tea' }), [undefined, {}])
})

for (const [what, spoil, code, message] of [
  ['a bigint in its context', { context: { n: 5n } }, 'rate_limited', 'x'],
  ['no context', { context: null }, 'rate_limited', 'x'],
  ['a context that throws', { context: { get n() { throw new Error('mine') } } }, 'provider_unavailable'],
  ['a message that is a number', { message: 5 }, 'rate_limited', '5'],
  ['a message that is no text at all', { message: { toString: 5 } }, 'provider_unavailable'],
  ['half a character', { message: 'a\ud800', context: { field: '\ud800' } }, 'rate_limited', 'a\ufffd'],
  ['a wait that is none', { retryAfterMs: 5n }, 'rate_limited', 'x'],
  ['an endless wait', { retryAfterMs: 1e300 }, 'rate_limited', 'x'],
  ['a code that is none', { code: 5n }, 'provider_unavailable'],
]) {
  test(`an error of ours with ${what} only ends its turn`, async (t) => {
    const thrown = new TutorError('rate_limited', 'x')
    for (const [name, value] of Object.entries(spoil)) Object.defineProperty(thrown, name, { value })
    const tutor = await open(t, { name: 'mine', stream() { throw thrown } })
    const error = await tutor.chat('hello').catch((error) => error)
    assert.deepEqual([error.code, error.cause === thrown], [code, true])
    if (message !== undefined) assert.equal(error.message, message)
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
