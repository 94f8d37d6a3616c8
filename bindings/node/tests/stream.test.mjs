import assert from 'node:assert/strict'
import test from 'node:test'

import { TurnStream } from 'neuro-tutor'

import { all, deferred, endless, open, run, textOf, yields } from './support.mjs'

/** A stream of an endless reply, read up to its first text. */
async function started(t, provider = endless(), options = {}) {
  const tutor = await open(t, provider)
  const stream = tutor.stream('tell me a story', options)
  while ((await stream.next()).value.type !== 'text.delta');
  return { tutor, stream, provider }
}

/** The turn is cancelled, its text kept, its session free, its provider cleaned up. */
async function stopped({ tutor, stream, provider }) {
  const turn = await tutor.turn(stream.turnId)
  assert.deepEqual([turn.status, turn.finishReason, turn.hasReply], ['cancelled', 'cancelled', true])
  const { items } = await tutor.messages(stream.sessionId)
  assert.deepEqual([items[1].content, items[1].status], ['once upon a time', 'partial'])
  assert.equal((await tutor.session(stream.sessionId)).runningTurn, null)
  await provider.seen.finished.promise
  assert.equal(provider.seen.signal.aborted, true)
}

test('breaking out of the loop stops the turn and keeps what had arrived', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider)
  const stream = tutor.stream('tell me a story')
  for await (const event of stream) if (event.type === 'text.delta') break
  await stopped({ tutor, stream, provider })
  assert.deepEqual(await stream.next(), { done: true, value: undefined })
})

test('an exception in the loop stops the turn', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider)
  const stream = tutor.stream('tell me a story')
  const loop = async () => {
    for await (const event of stream) if (event.type === 'text.delta') throw new Error('mine')
  }
  await assert.rejects(loop(), { message: 'mine' })
  await stopped({ tutor, stream, provider })
})

test('leaving while an event is awaited ends the wait', async (t) => {
  const parts = await started(t)
  const pending = parts.stream.next()
  await parts.stream.return()
  assert.deepEqual(await pending, { done: true, value: undefined })
  await stopped(parts)
})

test('a stream is disposed of at the end of its scope', async (t) => {
  const parts = await started(t)
  await parts.stream[Symbol.asyncDispose]()
  await stopped(parts)
})

test('cancelling a web stream leaves the stream', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider)
  const stream = tutor.stream('tell me a story')
  const reader = stream.toReadableStream().getReader()
  while ((await reader.read()).value.type !== 'text.delta');
  await reader.cancel()
  await stopped({ tutor, stream, provider })
})

test('a web stream has the same events', async (t) => {
  const tutor = await open(t, yields('a', 'b'))
  const stream = tutor.stream('hi')
  const events = await all(stream.toReadableStream())
  assert.deepEqual(events, await all(tutor.events(stream.turnId)))
})

test('cancel() stops the turn, and the stream goes on to its end', async (t) => {
  const parts = await started(t)
  await parts.stream.cancel()
  const [last, ...rest] = await all(parts.stream)
  assert.deepEqual([last.type, last.status, rest], ['turn.finished', 'cancelled', []])
  await stopped(parts)
  await parts.stream.cancel()
})

test('cancel() stops a turn whose next event is awaited', async (t) => {
  const parts = await started(t)
  const pending = parts.stream.next()
  await parts.stream.cancel()
  assert.equal((await pending).value.status, 'cancelled')
  await stopped(parts)
})

test('a stream that is cancelled before it began asks nobody', async (t) => {
  const tutor = await open(t, yields('hi'))
  const stream = tutor.stream('hello')
  await stream.cancel()
  assert.deepEqual(await all(stream), [])
  await tutor.stream('hello').return()
  assert.equal((await tutor.sessions()).items.length, 0)
})

test('an aborted signal stops the turn and rejects with an AbortError', async (t) => {
  const abort = new AbortController()
  const parts = await started(t, endless(), { signal: abort.signal })
  const pending = parts.stream.next()
  abort.abort()
  await assert.rejects(pending, (error) => error === abort.signal.reason && error.name === 'AbortError')
  await stopped(parts)
  assert.deepEqual(await parts.stream.next(), { done: true, value: undefined })
})

test('a signal that is aborted between two events ends the loop', async (t) => {
  const abort = new AbortController()
  const parts = await started(t, endless(), { signal: abort.signal })
  abort.abort()
  await assert.rejects(parts.stream.next(), { name: 'AbortError' })
  await stopped(parts)
})

test('an aborted chat rejects with an AbortError when its turn has ended', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider)
  const { id } = await tutor.createSession()
  const abort = new AbortController()
  const same = { session: id, idempotencyKey: 'k' }
  const reply = tutor.chat('tell me a story', { ...same, signal: abort.signal })
  await provider.seen.started.promise
  const watched = tutor.stream('tell me a story', { ...same, detached: true })
  assert.equal((await watched.next()).value.type, 'turn.started')
  abort.abort()
  await assert.rejects(reply, { name: 'AbortError' })
  assert.equal((await tutor.turn(watched.turnId)).status, 'cancelled')
  await provider.seen.finished.promise
})

test('a reason of the caller is the cause of the AbortError', async (t) => {
  const tutor = await open(t, endless())
  const reason = new Error('the learner went home')
  const abort = new AbortController()
  setTimeout(() => abort.abort(reason), 5)
  const check = (error) => error.name === 'AbortError' && error.code === 'ABORT_ERR' && error.cause === reason
  await assert.rejects(tutor.chat('hello', { signal: abort.signal }), check)
  await assert.rejects(all(tutor.stream('hello', { signal: abort.signal })), check)
  const late = AbortSignal.timeout(5)
  await assert.rejects(tutor.chat('hello', { signal: late }), (error) => error.name === 'AbortError' && error.cause === late.reason)
})

test('a signal that was aborted before asks nobody', async (t) => {
  const tutor = await open(t, yields('hi'))
  const signal = AbortSignal.abort()
  await assert.rejects(tutor.chat('hello', { signal }), { name: 'AbortError' })
  await assert.rejects(all(tutor.stream('hello', { signal })), { name: 'AbortError' })
  assert.equal((await tutor.sessions()).items.length, 0)
})

test('a signal that outlives many calls keeps no listeners', async (t) => {
  const tutor = await open(t, yields('hi'))
  const { signal } = new AbortController()
  let listeners = 0
  const add = signal.addEventListener.bind(signal)
  const remove = signal.removeEventListener.bind(signal)
  signal.addEventListener = (...args) => (listeners++, add(...args))
  signal.removeEventListener = (...args) => (listeners--, remove(...args))
  for (let i = 0; i < 5; i++) {
    await tutor.chat('hello', { signal })
    await all(tutor.stream('hello', { signal }))
    for await (const _ of tutor.stream('hello', { signal })) break
  }
  assert.equal(listeners, 0)
})

test('one signal is for as many calls as there are, and stops them all', async (t) => {
  const { stdout, stderr } = await run(`
    import { Tutor } from 'neuro-tutor'
    import { once } from 'node:events'
    const tutor = await Tutor.open('memory:', {
      providers: [{ name: 'mine', async *stream(_, { signal }) { yield 'x'; await once(signal, 'abort') } }],
    })
    const abort = new AbortController()
    const { signal } = abort
    const streams = Array.from({ length: 15 }, () => tutor.stream('x', { signal }))
    for (const stream of streams) await stream.next()
    const all = [...Array.from({ length: 15 }, () => tutor.chat('x', { signal })), ...streams.map((stream) => stream.reply())]
    while ((await tutor.status()).liveTurns < 30);
    abort.abort()
    const names = (await Promise.allSettled(all)).map(({ reason }) => reason.name)
    console.log(names.length, [...new Set(names)].join())
    await tutor.close()`)
  assert.equal(stderr, '')
  assert.equal(stdout, '30 AbortError\n')
})

test('whoever only watches a turn leaves it alone', async (t) => {
  const { tutor, stream, provider } = await started(t)
  for await (const event of tutor.events(stream.turnId)) if (event.type === 'text.delta') break
  const abort = new AbortController()
  const watching = all(tutor.events(stream.turnId, { signal: abort.signal }))
  abort.abort()
  await assert.rejects(watching, { name: 'AbortError' })
  assert.equal((await tutor.turn(stream.turnId)).status, 'running')
  await tutor.events(stream.turnId).cancel()
  await stopped({ tutor, stream, provider })
})

test('replayed from any number, the events are the same: while the turn runs and after it', async (t) => {
  const go = deferred()
  const tutor = await open(t, {
    name: 'mine',
    async *stream() {
      for (let i = 0; i < 200; i++) yield `${i} `
      await go.promise
      yield { type: 'reasoning.delta', text: 'hm' }
      for (let i = 0; i < 200; i++) yield `${i} `
    },
  })
  const stream = tutor.stream('count')
  const first = (await stream.next()).value
  const cuts = [0, 1, 2, 63, 64, 65, 150, 201, 202, 300, 402]
  const live = cuts.map((after) => all(tutor.events(stream.turnId, { after })))
  go.resolve()
  const events = [first, ...(await all(stream))]
  assert.deepEqual(events.map((event) => event.seq), Array.from(events, (_, i) => i + 1))
  const expected = cuts.map((after) => events.slice(after))
  assert.deepEqual(await Promise.all(live), expected)
  assert.deepEqual(await Promise.all(cuts.map((after) => all(tutor.events(stream.turnId, { after })))), expected)
})

test('overlapping calls of next() are answered in their order', async (t) => {
  const tutor = await open(t, yields('a', 'b', 'c'))
  const stream = tutor.stream('hi')
  const results = await Promise.all(Array.from({ length: 7 }, () => stream.next()))
  assert.deepEqual(results.map(({ value }) => value?.seq), [1, 2, 3, 4, 5, undefined, undefined])
})

test('a stream is an iterator of its own, and a class of this package', async (t) => {
  const tutor = await open(t, yields('a'))
  const stream = tutor.stream('hi')
  assert.ok(stream instanceof TurnStream)
  assert.equal(stream[Symbol.asyncIterator](), stream)
  assert.deepEqual([stream.turnId, stream.sessionId, stream.error], [undefined, undefined, undefined])
  assert.equal(textOf(await all(stream)), 'a')
})

test('a reply that is always ready leaves turns to the event loop', async (t) => {
  const tutor = await open(t, { name: 'mine', *stream() { for (;;) yield 'x' } })
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  let events = 0
  for await (const event of tutor.stream('hi', { signal: AbortSignal.timeout(20_000) })) {
    if (event.type === 'text.delta') events++
    if (ticks > 20) break
  }
  clearInterval(timer)
  assert.ok(ticks > 20 && events > 100, `${ticks} ${events}`)
})

test('reply() puts the rest of a stream together', async (t) => {
  const tutor = await open(t, yields('a', 'b', { type: 'notice', code: 'n', message: 'm' }))
  const whole = await tutor.stream('hi').reply()
  assert.deepEqual([whole.text, whole.status, whole.warnings], ['ab', 'completed', [{ code: 'n', message: 'm' }]])
  const stream = tutor.stream('hi')
  for await (const event of tutor.events(whole.turnId)) if (event.seq === 2) break
  await stream.next()
  assert.equal((await stream.reply()).text, 'ab')
  assert.deepEqual(await all(stream), [])
  await assert.rejects(stream.reply(), { code: 'invalid_input' })
  assert.equal(stream.error, undefined)
  assert.equal((await tutor.events(whole.turnId).reply()).text, 'ab')
})

test('after reply() a stream knows its turn and its conversation', async (t) => {
  const tutor = await open(t, yields('a'))
  const stream = tutor.stream('hi')
  const reply = await stream.reply()
  assert.deepEqual([stream.turnId, stream.sessionId, stream.error], [reply.turnId, reply.sessionId, undefined])
  const late = tutor.events(reply.turnId, { after: 2 })
  assert.equal((await late.next()).value.seq, 3)
  assert.equal(late.sessionId, reply.sessionId)
})

test('reply() rejects with what ended the turn, or with an AbortError', async (t) => {
  const boom = new Error('boom')
  const failing = await open(t, { name: 'mine', stream() { throw boom } })
  const failed = failing.stream('hi')
  const error = await failed.reply().catch((error) => error)
  assert.deepEqual([error.code, error.cause], ['provider_unavailable', boom])
  assert.equal(failed.error, error)
  assert.deepEqual([failed.turnId, failed.sessionId], [error.context.turn, error.context.session])
  const refused = failing.stream('hi', { session: 'none' })
  await assert.rejects(refused.reply(), { code: 'not_found' })
  assert.deepEqual([refused.error, refused.turnId, refused.sessionId], [undefined, undefined, undefined])
  const abort = new AbortController()
  const parts = await started(t, endless(), { signal: abort.signal })
  const reply = parts.stream.reply()
  abort.abort()
  await assert.rejects(reply, { name: 'AbortError' })
  await stopped(parts)
})
