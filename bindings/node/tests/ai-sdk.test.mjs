// With the real packages of the AI SDK: its mock models, a provider of it, and what reads its streams.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { once } from 'node:events'
import test from 'node:test'

import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls, readUIMessageStream } from 'ai'
import { MockLanguageModelV2 } from 'ai-v5/test'
import { MockLanguageModelV3, MockLanguageModelV4, convertArrayToReadableStream } from 'ai/test'
import { fromAiSdk, toUIMessageChunks, toUIMessageStreamResponse, Tutor, TutorError } from 'neuro-tutor'

import { all, endless, open, textOf, yields } from './support.mjs'

// A black PNG of one pixel.
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='

const nested = {
  usage: {
    inputTokens: { total: 5, noCache: 3, cacheRead: 2, cacheWrite: 0 },
    outputTokens: { total: 7, text: 6, reasoning: 1 },
  },
  finishReason: { unified: 'length', raw: 'max_tokens' },
}
const VERSIONS = {
  v2: [MockLanguageModelV2, { usage: { inputTokens: 5, outputTokens: 7, totalTokens: 12, cachedInputTokens: 2, reasoningTokens: 1 }, finishReason: 'length' }],
  v3: [MockLanguageModelV3, nested],
  v4: [MockLanguageModelV4, nested],
}

const model = (version, parts, more = {}) => {
  const [Mock] = VERSIONS[version]
  return new Mock({ provider: 'mock.chat', modelId: 'tiny', doStream: async () => ({ stream: convertArrayToReadableStream(parts) }), ...more })
}

for (const [version, [, end]] of Object.entries(VERSIONS)) {
  test(`a model of version ${version} answers`, async (t) => {
    const mock = model(version, [
      { type: 'stream-start', warnings: [] },
      { type: 'reasoning-start', id: '0' },
      { type: 'reasoning-delta', id: '0', delta: 'hm' },
      { type: 'reasoning-end', id: '0' },
      { type: 'text-start', id: '1' },
      { type: 'text-delta', id: '1', delta: 'Hello ' },
      { type: 'text-delta', id: '1', delta: 'there' },
      { type: 'text-end', id: '1' },
      { type: 'finish', ...end },
    ])
    const tutor = await open(t, fromAiSdk(mock))
    const first = await tutor.chat('Hi', { temperature: 0.5, maxTokens: 9 })
    assert.deepEqual([first.text, first.finishReason, first.message.provider, first.message.model], ['Hello there', 'length', 'mock.chat', 'tiny'])
    const { cacheWriteTokens: _, ...usage } = first.usage
    assert.deepEqual(usage, { inputTokens: 5, cachedInputTokens: 2, outputTokens: 7, reasoningTokens: 1 })
    const stream = tutor.stream([
      { type: 'text', text: 'What is this?' },
      { type: 'image', url: `data:image/png;base64,${PIXEL}` },
      { type: 'image', url: 'https://example.com/a.png', mediaType: 'image/png' },
    ], { session: first.sessionId })
    assert.equal((await stream.reply()).text, 'Hello there')
    const [asked, again] = mock.doStreamCalls
    assert.deepEqual([asked.temperature, asked.maxOutputTokens], [0.5, 9])
    assert.ok(asked.abortSignal instanceof AbortSignal)
    const tagged = (data) => version !== 'v4' ? data : data instanceof URL ? { type: 'url', url: data } : { type: 'data', data }
    assert.deepEqual(again.prompt, [
      { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
      { role: 'assistant', content: [{ type: 'text', text: 'Hello there' }] },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What is this?' },
          { type: 'file', data: tagged(PIXEL), mediaType: 'image/png' },
          { type: 'file', data: tagged(new URL('https://example.com/a.png')), mediaType: 'image/png' },
        ],
      },
    ])
  })

  test(`a model of version ${version} calls tools, fails and breaks off like any other`, async (t) => {
    const call = { type: 'tool-call', toolCallId: 'c', toolName: 'plot', input: '{"x":1}' }
    const calling = await open(t, fromAiSdk(model(version, [call, { type: 'finish', ...end }])))
    assert.ok((await all(calling.stream('Hi'))).some((event) => event.type === 'tool.call' && event.arguments.x === 1))
    const boom = new Error('boom')
    for (const parts of [[{ type: 'error', error: boom }], [{ type: 'text-delta', id: '1', delta: 'x' }, { type: 'error', error: boom }]]) {
      const failing = await open(t, fromAiSdk(model(version, parts)))
      await assert.rejects(failing.chat('Hi'), { code: 'provider_unavailable', cause: boom })
    }
    const cut = await open(t, fromAiSdk(model(version, [{ type: 'text-delta', id: '1', delta: 'x' }])))
    await assert.rejects(cut.chat('Hi'), { code: 'interrupted' })
  })
}

test('what is no model is refused', () => {
  for (const wrong of [{}, { specificationVersion: 'v1', doStream() {} }, { specificationVersion: 'v4' }]) {
    assert.throws(() => fromAiSdk(wrong), { code: 'config' })
  }
})

/** A provider of the SDK, against a server. */
async function compatible(t, handler) {
  const server = createServer(handler)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => (server.closeAllConnections(), server.close()))
  const sdk = createOpenAICompatible({ name: 'lab/one', baseURL: `http://127.0.0.1:${server.address().port}/v1`, apiKey: 'k' })
  return open(t, fromAiSdk(sdk('tiny')))
}

test('a provider of the SDK answers over HTTP, and its request is closed when the reply is left', async (t) => {
  const closed = Promise.withResolvers?.() ?? (() => { let resolve; const promise = new Promise((r) => (resolve = r)); return { promise, resolve } })()
  const tutor = await compatible(t, (request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const chunk = { id: 'c', object: 'chat.completion.chunk', created: 1, model: 'tiny', choices: [{ index: 0, delta: { role: 'assistant', content: 'Hello' }, finish_reason: null }] }
    response.write(`data: ${JSON.stringify(chunk)}\n\n`)
    response.on('close', closed.resolve)
  })
  for await (const event of tutor.stream('Hi')) {
    if (event.type === 'text.delta') {
      assert.equal(event.text, 'Hello')
      break
    }
  }
  await closed.promise
})

test('a refusal over HTTP has the code that a caller acts on', async (t) => {
  for (const [status, code, retryable] of [[401, 'provider_auth', false], [429, 'rate_limited', true], [400, 'provider_rejected', false], [503, 'provider_unavailable', true]]) {
    const tutor = await compatible(t, (request, response) => {
      response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '2', 'x-request-id': 'req-42' })
      response.end(JSON.stringify({ error: { message: 'the words of the learner' } }))
    })
    await assert.rejects(tutor.chat('Hi'), (error) => {
      assert.ok(error instanceof TutorError)
      assert.deepEqual([error.code, error.retryable], [code, retryable])
      assert.equal(error.cause.statusCode, status)
      assert.deepEqual([error.requestId, error.context.status], ['req-42', `${status}`])
      assert.doesNotMatch(error.message, /learner/)
      return true
    })
  }
})

const messageOf = async (chunks) => {
  let last
  for await (const message of readUIMessageStream({ stream: chunks, onError: (error) => { throw error } })) last = message
  return last
}

test("useChat's transport reads the response", async (t) => {
  const tutor = await open(t, yields({ type: 'reasoning.delta', text: 'hm' }, 'Hello ', 'there', { type: 'usage', inputTokens: 3 }))
  let sent
  const transport = new DefaultChatTransport({
    api: 'http://localhost/chat',
    fetch: async (_url, { body }) => {
      sent = JSON.parse(body)
      const text = sent.messages.at(-1).parts.map((part) => part.text).join('')
      return toUIMessageStreamResponse(tutor.stream(text), { headers: { 'x-mine': '1' } })
    },
  })
  const stream = await transport.sendMessages({
    trigger: 'submit-message',
    chatId: 'c1',
    messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'Hi' }] }],
  })
  const message = await messageOf(stream)
  const { items: [session] } = await tutor.sessions()
  const reply = (await tutor.messages(session.id)).items[1]
  assert.equal(message.id, reply.id)
  assert.deepEqual(message.parts.map(({ type, text }) => [type, text]), [['step-start', undefined], ['reasoning', 'hm'], ['text', 'Hello there']])
  assert.equal(message.metadata.sessionId, session.id)
  assert.deepEqual([message.metadata.finishReason, message.metadata.usage], ['stop', { inputTokens: 3 }])
})

test('a client that goes away stops the turn', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider)
  const stream = tutor.stream('Hi')
  const response = await toUIMessageStreamResponse(stream)
  assert.equal(response.headers.get('x-vercel-ai-ui-message-stream'), 'v1')
  const reader = response.body.getReader()
  for (let i = 0; i < 4; i++) await reader.read()
  const pending = reader.read()
  await reader.cancel()
  await pending
  await provider.seen.finished.promise
  assert.equal((await tutor.turn(stream.turnId)).status, 'cancelled')
})

test('what goes wrong is told in our words, and what cannot begin rejects', async (t) => {
  const tutor = await open(t, { name: 'mine', async *stream() { yield 'some'; throw new Error('secret') } })
  const chunks = await all(toUIMessageChunks(tutor.stream('Hi')))
  assert.deepEqual(chunks.slice(-2).map((chunk) => chunk.type), ['text-delta', 'error'])
  assert.doesNotMatch(JSON.stringify(chunks), /secret/)
  await assert.rejects(toUIMessageStreamResponse(tutor.stream('Hi', { session: 'none' })), { code: 'not_found' })
})

test('a reply that is begun anew, calls a tool or is cancelled keeps the grammar', async (t) => {
  const tutor = await open(t, yields('a', { type: 'attempt.restarted', reason: 'retry' }, 'b', { type: 'tool.call', callId: 'c', name: 'n', arguments: {} }, { type: 'finished', reason: 'tool_calls' }))
  const chunks = await all(toUIMessageChunks(tutor.stream('Hi')))
  assert.deepEqual(chunks.map((chunk) => chunk.type), [
    'start', 'start-step', 'text-start', 'text-delta', 'text-end', 'finish-step', 'start-step', 'data-notice',
    'text-start', 'text-delta', 'text-end', 'tool-input-available', 'finish-step', 'finish',
  ])
  const endlessly = await open(t, endless())
  const stream = endlessly.stream('Hi')
  const types = []
  for await (const chunk of toUIMessageChunks(stream)) {
    types.push(chunk.type)
    if (chunk.type === 'text-delta') void stream.cancel()
  }
  assert.deepEqual(types.slice(-3), ['text-end', 'finish-step', 'abort'])
  assert.equal(textOf(await all(endlessly.events(stream.turnId))), 'once upon a time')
})

/** What `useChat` is around its hooks: the SDK's own chat, which keeps its messages here. */
class Chat extends AbstractChat {
  constructor(init) {
    const state = {
      status: 'ready',
      error: undefined,
      messages: [],
      pushMessage: (message) => (state.messages = [...state.messages, message]),
      popMessage: () => (state.messages = state.messages.slice(0, -1)),
      replaceMessage: (index, message) => (state.messages = state.messages.with(index, message)),
      snapshot: structuredClone,
    }
    super({ ...init, state })
  }
}

/** A chat with a tutor, and what its provider is asked. */
async function chatting(t, tools, ...steps) {
  const asked = []
  const provider = {
    name: 'mine',
    async *stream(request) {
      asked.push(request.messages)
      yield* steps[asked.length - 1] ?? ['So it is.']
    },
  }
  const tutor = await Tutor.open('memory:', { providers: [provider], tools })
  t.after(() => tutor.close())
  const chat = new Chat({
    id: 'c1',
    transport: new DefaultChatTransport({
      api: 'http://localhost/chat',
      fetch: async (_url, { body }) => toUIMessageStreamResponse(tutor.streamUI(JSON.parse(body))),
    }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onError: (error) => { throw error },
  })
  const settled = async (turns) => {
    while (asked.length < turns || chat.status !== 'ready') await new Promise((resolve) => setImmediate(resolve))
  }
  return { asked, chat, settled, tutor }
}

const calls = (...names) => [...names.map((name) => ({ type: 'tool.call', callId: `call-${name}`, name, arguments: {} })), { type: 'finished', reason: 'tool_calls' }]
const schema = { type: 'object' }

test('what tools of the page gave goes on with the reply, once, and without what tools of the tutor gave', async (t) => {
  const tools = {
    clock: { description: 'The time.', parameters: schema, execute: () => 'noon' },
    locate: { description: 'Where the learner is.', parameters: schema },
    camera: { description: 'A picture.', parameters: schema },
  }
  const { asked, chat, settled, tutor } = await chatting(t, tools, calls('clock'), calls('locate', 'camera'))
  await chat.sendMessage({ text: 'Where am I?' })
  const open = chat.lastMessage.parts.filter(({ state }) => state === 'input-available')
  assert.deepEqual(open.map(({ type }) => type), ['tool-locate', 'tool-camera'])
  await chat.addToolOutput({ tool: 'locate', toolCallId: 'call-locate', output: { city: 'Paris' } })
  await chat.addToolOutput({ tool: 'camera', toolCallId: 'call-camera', state: 'output-error', errorText: 'no camera' })
  await settled(3)
  const results = asked[2].flatMap(({ content }) => (typeof content === 'string' ? [] : content)).filter(({ type }) => type === 'tool_result')
  assert.deepEqual(
    results.map(({ callId, result, isError }) => [callId, result, isError ?? false]),
    [['call-clock', 'noon', false], ['call-locate', { city: 'Paris' }, false], ['call-camera', 'no camera', true]],
  )
  assert.match(chat.lastMessage.parts.findLast(({ type }) => type === 'text').text, /So it is/)
  const stored = (await tutor.messages('c1')).items
  assert.deepEqual(stored.map(({ role }) => role), ['user', 'assistant', 'user', 'assistant'])
  // And it is a conversation like any other.
  await chat.sendMessage({ text: 'Thanks' })
  await settled(4)
  assert.equal((await tutor.messages('c1')).items.length, 6)
})

test('a message is edited and answered anew as the chat of the SDK does it', async (t) => {
  const { asked, chat, settled, tutor } = await chatting(t, {})
  await chat.sendMessage({ text: 'Why?' })
  await chat.regenerate()
  await settled(2)
  const { id } = chat.messages[0]
  await chat.sendMessage({ text: 'Why not?', messageId: id })
  await settled(3)
  assert.deepEqual(asked.map((messages) => messages.map(({ content }) => content)), [['Why?'], ['Why?'], ['Why not?']])
  assert.equal((await tutor.siblings('c1', id)).length, 2)
})

test('what useChat did not send is refused, and so is what it says itself', async (t) => {
  const tutor = await open(t, yields('a'))
  for (const body of [undefined, null, 'x', {}, { id: 'c', messages: [] }, { id: 'c', messages: [{ role: 'user' }] }, { id: 'c', messages: [{ role: 'user', parts: [] }] }]) {
    await assert.rejects(toUIMessageStreamResponse(tutor.streamUI(body)), (error) => error instanceof TutorError && error.code === 'invalid_input' && error.message.length > 10, JSON.stringify(body))
  }
  assert.throws(() => tutor.streamUI({}, { edit: 'm' }), { code: 'invalid_input', context: { field: 'edit' } })
  const body = { id: 'c', messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'Hi' }] }], preferences: { model: 'other/one' } }
  const reply = await tutor.streamUI(body, { session: 'mine' }).reply()
  assert.deepEqual([reply.sessionId, reply.message.provider], ['mine', 'mine'])
})
