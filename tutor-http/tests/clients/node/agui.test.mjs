// AG-UI's own client.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { HttpAgent } from '@ag-ui/client'

import { serve } from './server.mjs'

let server
before(async () => {
  server = await serve()
})
after(() => server.stop())

const agent = (threadId, initialMessages = []) => new HttpAgent({ url: `${server.url}/agui`, threadId, initialMessages })

test('a run answers the last message, and the thread goes on', async () => {
  const a = agent('agui-thread')
  a.addMessage({ id: 'u1', role: 'user', content: 'What is photosynthesis?' })
  const { newMessages } = await a.runAgent()
  assert.equal(newMessages.length, 1)
  assert.ok(newMessages[0].content.length > 10)
  a.addMessage({ id: 'u2', role: 'user', content: 'And in one sentence?' })
  await a.runAgent()
  assert.equal(a.messages.length, 4)
  const { messages } = await server.get('/api/sessions/agui-thread/messages')
  assert.deepEqual(messages.map((m) => m.id), a.messages.map((m) => m.id))
  assert.deepEqual(messages.map((m) => m.content), a.messages.map((m) => m.content))
})

test('a run with nothing to answer brings the thread', async () => {
  const a = agent('agui-known')
  a.addMessage({ id: 'u1', role: 'user', content: 'hello' })
  await a.runAgent()
  const b = agent('agui-known')
  await b.runAgent()
  assert.deepEqual(b.messages.map((m) => m.content), a.messages.map((m) => m.content))
  assert.equal((await server.get('/api/sessions/agui-known')).message_count, 2)
})

test('a thread with files is brought and gone on with', async () => {
  const a = agent('agui-files')
  const data = (mimeType, value) => ({ type: 'data', mimeType, value })
  const content = [
    { type: 'text', text: 'look' },
    { type: 'image', source: data('image/png', 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ') },
    { type: 'document', source: data('text/plain', 'bm90ZXM=') },
  ]
  a.addMessage({ id: 'u1', role: 'user', content })
  await a.runAgent()
  const b = agent('agui-files')
  await b.runAgent()
  assert.deepEqual(b.messages, a.messages)
  b.addMessage({ id: 'u2', role: 'user', content: 'and now?' })
  const { newMessages } = await b.runAgent()
  assert.ok(newMessages.at(-1).content.length > 10)
  assert.equal((await server.get('/api/sessions/agui-files')).message_count, 4)
})

test('a reply that was stopped is an error of the run', async () => {
  const slow = await serve({ delay: 20 })
  const a = new HttpAgent({ url: `${slow.url}/agui`, threadId: 'agui-stop' })
  a.addMessage({ id: 'u1', role: 'user', content: 'Tell me much' })
  const ends = []
  await a.runAgent({}, {
    onTextMessageContentEvent: () => void fetch(`${slow.url}/api/chat/agui-stop/stop`, { method: 'POST' }),
    onRunErrorEvent: ({ event }) => void ends.push(event.code),
    onRunFinishedEvent: () => void ends.push('finished'),
  }).catch(() => {})
  assert.deepEqual(ends, ['cancelled'])
  const { messages } = await slow.get('/api/sessions/agui-stop/messages')
  assert.equal(messages[1].content, a.messages[1].content)
  await slow.stop()
})

test('a failure is an error of the run', async () => {
  const a = agent('not an id')
  a.addMessage({ id: 'u1', role: 'user', content: 'hello' })
  await assert.rejects(a.runAgent())
})
