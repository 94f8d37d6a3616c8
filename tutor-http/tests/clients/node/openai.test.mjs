// OpenAI's own client.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import OpenAI from 'openai'

import { serve } from './server.mjs'

let server, client
before(async () => {
  server = await serve()
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
})
after(() => server.stop())

const ask = (content, more = {}) => ({ model: 'gpt-4', messages: [{ role: 'user', content }], ...more })

test('a whole completion', async () => {
  const completion = await client.chat.completions.create(ask('Why?'))
  assert.equal(completion.object, 'chat.completion')
  assert.equal(completion.choices[0].finish_reason, 'stop')
  assert.ok(completion.choices[0].message.content.length > 10)
  assert.equal(typeof completion.usage.total_tokens, 'number')
})

test('a streamed completion, with its usage', async () => {
  const stream = await client.chat.completions.create(ask('Why?', { stream: true, stream_options: { include_usage: true } }))
  let text = ''
  let usage
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.ok(text.length > 10)
  assert.equal(typeof usage.prompt_tokens, 'number')
})

test('the stream helper puts the same reply together', async () => {
  const stream = client.chat.completions.stream(ask('Why?'))
  const final = await stream.finalChatCompletion()
  assert.ok(final.choices[0].message.content.length > 10)
})

test('a conversation is named by the header and goes on', async () => {
  const headers = { 'X-Session-Id': 'openai-session' }
  await client.chat.completions.create(ask('one'), { headers })
  const second = ask('two')
  second.messages.unshift({ role: 'user', content: 'one' }, { role: 'assistant', content: 'whatever' })
  const { response } = await client.chat.completions.create(second, { headers }).withResponse()
  assert.equal(response.headers.get('x-session-id'), 'openai-session')
  const { messages } = await server.get('/api/sessions/openai-session/messages')
  assert.deepEqual(messages.filter((m) => m.role === 'user').map((m) => m.content), ['one', 'two'])
})

test('models are listed and read', async () => {
  const { data } = await client.models.list()
  assert.equal(data[0].id, 'neuro-tutor')
  for (const model of data) {
    assert.equal((await client.models.retrieve(model.id)).id, model.id)
  }
  await assert.rejects(client.models.retrieve('nobody'), OpenAI.NotFoundError)
})

test('what is wrong with a request is told in one sentence', async () => {
  const bad = ask('x', { messages: [{ role: 'nobody', content: 1 }] })
  await assert.rejects(client.chat.completions.create(bad), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError)
    assert.match(error.message, /messages\.0\.role/)
    assert.equal(error.code, 'invalid_input')
    return true
  })
  await assert.rejects(client.get('/nowhere'), OpenAI.NotFoundError)
})
