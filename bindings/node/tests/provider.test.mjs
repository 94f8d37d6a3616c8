import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import test from 'node:test'

import { Tutor, TutorError } from 'neuro-tutor'

import { all, deferred, open, textOf, yields } from './support.mjs'

const fails = (t, provider, check) =>
  open(t, provider).then((tutor) => assert.rejects(tutor.chat('hello'), check))

test('every kind of delta becomes its event', async (t) => {
  const tutor = await open(
    t,
    yields(
      { type: 'heartbeat' },
      { type: 'reasoning.delta', text: 'hm' },
      { type: 'text.delta', text: 'void' },
      { type: 'attempt.restarted', reason: 'fallback' },
      'a',
      { type: 'refusal.delta', text: 'b' },
      { type: 'notice', code: 'slow', message: 'the model is slow' },
      { type: 'tool.call', callId: 'c1', name: 'plot', arguments: { x_min: 0, xMax: 1 } },
      { type: 'usage', inputTokens: 1 },
      { type: 'usage', inputTokens: 2, outputTokens: 3, reasoningTokens: 1, cachedInputTokens: 0, costUsd: 0.5 },
      { type: 'finished', reason: 'tool_calls' },
      'never seen',
    ),
  )
  const events = await all(tutor.stream('hi'))
  const plain = events.slice(1, -1).map(({ seq: _, ...event }) => event)
  assert.deepEqual(plain, [
    { type: 'reasoning.delta', text: 'hm' },
    { type: 'text.delta', text: 'void' },
    { type: 'attempt.restarted', attempt: 2, reason: 'fallback' },
    { type: 'text.delta', text: 'a' },
    { type: 'text.delta', text: 'b' },
    { type: 'notice', code: 'slow', message: 'the model is slow' },
    { type: 'tool.call', callId: 'c1', name: 'plot', arguments: { x_min: 0, xMax: 1 } },
    { type: 'usage', inputTokens: 2, outputTokens: 3, reasoningTokens: 1, cachedInputTokens: 0, costUsd: 0.5 },
  ])
  const { message, finishReason } = events.at(-1)
  assert.equal(finishReason, 'tool_calls')
  assert.deepEqual(message.content, [
    { type: 'text', text: 'ab' },
    { type: 'tool_call', callId: 'c1', name: 'plot', arguments: { x_min: 0, xMax: 1 } },
  ])
})

test('a provider may be any kind of iterable, or the promise of one', async (t) => {
  for (const stream of [
    async function* () { yield 'hi' },
    function* () { yield 'hi' },
    () => ['h', 'i'],
    async () => ['hi'],
    async () => (async function* () { yield 'hi' })(),
    () => new ReadableStream({ start(controller) { controller.enqueue('hi'); controller.close() } }),
  ]) {
    const tutor = await open(t, { name: 'mine', stream })
    assert.equal((await tutor.chat('hello')).text, 'hi')
  }
})

test('a provider may be a class, with state of its own', async (t) => {
  class Mine {
    name = 'mine'
    #count = 0
    async *stream() {
      yield `${++this.#count}`
    }
  }
  const tutor = await open(t, new Mine())
  await tutor.chat('hello')
  assert.equal((await tutor.chat('hello')).text, '2')
})

test('what a provider throws is the cause of the error', async (t) => {
  const boom = new RangeError('the words of the learner')
  for (const thrown of [boom, 'a string', null, undefined, { code: 'ECONNRESET', message: 'x' }]) {
    for (const stream of [
      async function* () { yield 'some text'; throw thrown },
      function () { throw thrown },
      async () => { throw thrown },
    ]) {
      await fails(t, { name: 'mine', stream }, (error) => {
        assert.ok(error instanceof TutorError)
        assert.equal(error.code, 'provider_unavailable')
        assert.equal(error.cause, thrown)
        assert.deepEqual(Object.keys(error.context).sort(), ['provider', 'session', 'turn'])
        assert.equal(error.context.provider, 'mine')
        assert.doesNotMatch(error.message, /learner/)
        return true
      })
    }
  }
})

test('a stream whose provider throws ends with turn.failed, and has the error', async (t) => {
  const boom = new RangeError('boom')
  const tutor = await open(t, { name: 'mine', async *stream() { yield 'some text'; throw boom } })
  const stream = tutor.stream('hi')
  const events = await all(stream)
  const { type, error, partial } = events.at(-1)
  assert.equal(type, 'turn.failed')
  assert.deepEqual(error, { code: 'provider_unavailable', message: stream.error.message, retryable: false })
  assert.equal(partial.content, 'some text')
  assert.equal(stream.error.cause, boom)
  assert.deepEqual(await all(tutor.events(stream.turnId)), events)
  const reply = await tutor.forOwner('local').turn(stream.turnId)
  assert.deepEqual([reply.status, reply.error.code], ['failed', 'provider_unavailable'])
})

test('a provider that throws a TutorError decides what the caller sees', async (t) => {
  const thrown = new TutorError('rate_limited', 'slow down', { retryable: true, retryAfterMs: 2500 })
  await fails(t, { name: 'mine', stream() { throw thrown } }, (error) => {
    assert.deepEqual([error.code, error.message, error.retryable, error.retryAfterMs], ['rate_limited', 'slow down', true, 2500])
    assert.equal(error.cause, thrown)
    return true
  })
})

test('what is no delta ends the reply, and is not quoted', async (t) => {
  const circle = {}
  circle.circle = circle
  for (const garbage of [
    42, null, undefined, true, Symbol('secret'), () => 'secret', 10n, [], {}, circle, new Date(),
    { type: 'secret' }, { text: 'secret' }, { type: 'text.delta' }, { type: 'text.delta', text: 5 },
    { type: 'finished', reason: 'secret' }, { type: 'usage', inputTokens: 'secret' },
  ]) {
    let cleaned = false
    const provider = {
      name: 'mine',
      async *stream() {
        try {
          yield 'some text'
          yield garbage
          yield 'more'
        } finally {
          cleaned = true
        }
      },
    }
    await fails(t, provider, (error) => {
      assert.equal(error.code, 'provider_unavailable')
      assert.doesNotMatch(error.message, /secret/)
      return true
    })
    while (!cleaned) await new Promise(setImmediate)
  }
  for (const source of [undefined, null, 5, 'text', {}]) {
    const check = (error) => error.code === 'provider_unavailable' && (typeof source === 'string' || error.cause instanceof TypeError)
    if (typeof source === 'string') continue
    await fails(t, { name: 'mine', stream: () => source }, check)
  }
})

test('a provider that ends without saying anything has failed', async (t) => {
  await fails(t, yields(), { code: 'interrupted', retryable: true })
  await fails(t, yields({ type: 'reasoning.delta', text: 'hm' }), { code: 'interrupted' })
  await fails(t, yields('void', { type: 'attempt.restarted', reason: 'retry' }), { code: 'interrupted' })
})

test('a reply may be empty if the provider says that it is complete', async (t) => {
  const tutor = await open(t, yields({ type: 'finished', reason: 'content_filter' }))
  const reply = await tutor.chat('hello')
  assert.deepEqual([reply.text, reply.finishReason], ['', 'content_filter'])
})

test('a provider that returns early is cleaned up, and its reply is whole', async (t) => {
  let cleaned = 0
  const tutor = await open(t, {
    name: 'mine',
    async *stream() {
      try {
        yield 'all'
        yield { type: 'finished' }
        yield 'too much'
      } finally {
        cleaned++
      }
    },
  })
  assert.equal((await tutor.chat('hello')).text, 'all')
  while (!cleaned) await new Promise(setImmediate)
  const early = await open(t, { name: 'mine', async *stream() { yield 'all'; return 'ignored' } })
  assert.equal((await early.chat('hello')).text, 'all')
})

test('a provider that never ends is stopped by the time limit', async (t) => {
  const left = deferred()
  const tutor = await open(t, {
    name: 'mine',
    async *stream({ timeoutMs }, { signal }) {
      left.resolve(timeoutMs)
      yield 'some text'
      await once(signal, 'abort')
    },
  })
  await assert.rejects(tutor.chat('hello', { timeoutMs: 150 }), { code: 'timeout' })
  assert.ok((await left.promise) <= 150)
})

test('a provider that ignores its signal cannot hold up anybody', async (t) => {
  const tutor = await open(t, { name: 'mine', async *stream() { yield 'x'; await new Promise(() => {}) } })
  const stream = tutor.stream('hello')
  for await (const event of stream) if (event.type === 'text.delta') break
  assert.equal((await tutor.turn(stream.turnId)).status, 'cancelled')
})

test('a provider is no further ahead than its buffer while the engine is busy', async (t) => {
  let yielded = 0
  const tutor = await Tutor.open('memory:', {
    providers: [{ name: 'mine', async *stream() { for (;;) { yielded++; yield 'x'.repeat(1000) } } }],
    limits: { maxReplyBytes: 200_000, closeGraceMs: 0 },
  })
  t.after(() => tutor.close())
  await assert.rejects(tutor.chat('hello'), { code: 'too_large' })
  // What the engine took, what its buffer holds, and a batch on its way.
  assert.ok(yielded <= 200 + 256 + 64 + 1, `${yielded}`)
})

test('characters that a provider tears apart are joined', async (t) => {
  const tutor = await open(t, yields(...'a😀é😀'.split(''), '\ud83d'))
  const events = await all(tutor.stream('hi'))
  assert.equal(textOf(events), 'a😀é😀\ufffd')
})

test('a provider gets the models that it lists', async (t) => {
  const asked = []
  const provider = { name: 'mine', models: ['small', 'large'], async *stream({ model }) { asked.push(model); yield 'hi' } }
  const tutor = await open(t, provider, { ...yields('other'), name: 'other', model: 'm1' })
  await tutor.chat('hello')
  await tutor.chat('hello', { model: 'large' })
  await tutor.chat('hello', { model: 'mine/small' })
  assert.deepEqual(asked, ['small', 'large', 'small'])
  await assert.rejects(tutor.chat('hello', { model: 'huge' }), { code: 'invalid_input' })
  assert.equal((await tutor.chat('hello', { provider: 'other' })).text, 'other')
  assert.equal((await tutor.chat('hello', { provider: 'other' })).message.model, 'm1')
  assert.deepEqual(await tutor.models('mine'), [{ id: 'small', contextWindow: undefined }, { id: 'large', contextWindow: undefined }].map(({ id }) => ({ id })))
  assert.deepEqual(await tutor.providers(), [
    { name: 'mine', defaultModel: 'small', models: ['small', 'large'] },
    { name: 'other', defaultModel: 'm1', models: null },
  ])
})

test('a built-in provider talks to a server that speaks its protocol', async (t) => {
  let body = ''
  const server = createServer(async (request, response) => {
    for await (const chunk of request) body += chunk
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const chunk = (delta, finish_reason = null) =>
      `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] })}\n\n`
    response.write(chunk({ role: 'assistant', content: 'Hello ' }))
    response.write(chunk({ content: 'there' }))
    response.end(`${chunk({}, 'stop')}data: [DONE]\n\n`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const tutor = await open(t, {
    kind: 'openai',
    name: 'local',
    baseUrl: `http://127.0.0.1:${server.address().port}`,
    apiKey: 'k',
    model: 'tiny',
    idleTimeoutMs: 5000,
  })
  const stream = tutor.stream('Hi')
  assert.equal(textOf(await all(stream)), 'Hello there')
  const sent = JSON.parse(body)
  assert.deepEqual([sent.model, sent.stream, sent.messages.at(-1).content], ['tiny', true, 'Hi'])
})

test('a provider of one\'s own answers when a built-in one cannot', async (t) => {
  const main = { kind: 'openai', name: 'main', baseUrl: 'http://127.0.0.1:9', apiKey: 'k', maxRetries: 0, fallback: ['mine'] }
  const tutor = await open(t, main, yields('from mine'))
  const reply = await tutor.chat('hello')
  assert.deepEqual([reply.text, reply.message.provider], ['from mine', 'mine'])
  await tutor.replaceProviders([yields('again'), main], { defaultProvider: 'main' })
  assert.equal((await tutor.chat('hello')).text, 'again')
  await assert.rejects(open(t, { ...main, fallback: ['other'] }, yields('x')), { code: 'config', message: /other is no provider.* known: main, mine/ })
})

test('what a provider wants back comes back with the results, as it was', async (t) => {
  const asked = []
  const data = { thought_signature: 'x', camelCase: [{ timeout: 1 }] }
  const provider = {
    name: 'mine',
    async *stream({ messages }) {
      asked.push(messages)
      if (asked.length > 1) return yield 'done'
      yield { type: 'accepted', requestId: 'req-1' }
      yield { type: 'answered_by', provider: 'theirs', model: 'tiny' }
      yield { type: 'replay', protocol: 'mine', data }
      yield { type: 'tool.call', callId: 'c', name: 'now', arguments: {} }
      yield { type: 'finished', reason: 'tool_calls' }
    },
  }
  const tutor = await Tutor.open('memory:', { providers: [provider], tools: { now: { execute: () => 'noon' } } })
  t.after(() => tutor.close())
  await tutor.chat('hello')
  const parts = asked[1].flatMap(({ content }) => (typeof content === 'string' ? [] : content))
  assert.deepEqual(parts.find(({ type }) => type === 'replay'), { type: 'replay', protocol: 'mine', data })
})

test('every kind of built-in provider is declared, and no other', () => {
  const config = readFileSync(new URL('../../../tutor-core/src/provider/config.rs', import.meta.url), 'utf8')
  const kinds = [...config.matchAll(/Self::\w+ => "([a-z-]+)"/g)].map(([, kind]) => kind)
  const types = readFileSync(new URL('../ts/provider.ts', import.meta.url), 'utf8')
  const declared = /export type ProviderKind = (.*)/.exec(types)[1].split(' | ').map((kind) => kind.slice(1, -1))
  assert.deepEqual(declared.sort(), [...kinds, 'demo'].sort())
})

test('every kind of built-in provider is in this build', async (t) => {
  for (const kind of ['openai', 'openai-responses', 'anthropic', 'gemini', 'ollama', 'demo']) {
    const tutor = await open(t, { kind, ...(kind === 'demo' ? {} : { apiKey: 'k', baseUrl: 'http://127.0.0.1:9' }) })
    assert.equal((await tutor.providers())[0].name, kind)
  }
})
