// Anthropic's own client.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'

import { serve } from './server.mjs'

let server, client
before(async () => {
  server = await serve()
  client = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 })
})
after(() => server.stop())

const ask = (content, more = {}) => ({ model: 'claude', max_tokens: 1000, messages: [{ role: 'user', content }], ...more })

test('a whole message', async () => {
  const message = await client.messages.create(ask('Why?'))
  assert.equal(message.stop_reason, 'end_turn')
  assert.equal(message.content[0].type, 'text')
  assert.ok(message.content[0].text.length > 10)
})

test('a streamed message', async () => {
  const stream = client.messages.stream(ask([{ type: 'text', text: 'Why?' }], { system: 'Be kind.' }))
  let text = ''
  stream.on('text', (delta) => (text += delta))
  const message = await stream.finalMessage()
  assert.equal(message.content[0].text, text)
  assert.equal(message.stop_reason, 'end_turn')
})

test('a conversation is named by the header and goes on', async () => {
  const headers = { 'X-Session-Id': 'anthropic-session' }
  await client.messages.create(ask('one'), { headers })
  await client.messages.create(ask('two'), { headers })
  const { messages } = await server.get('/api/sessions/anthropic-session/messages')
  assert.equal(messages.length, 4)
})

test('tokens are counted', async () => {
  const { model, messages } = ask('four')
  const { input_tokens } = await client.messages.countTokens({ model, messages })
  assert.equal(input_tokens, 1)
})

test('what is wrong with a request is told', async () => {
  const bad = { model: 'claude', messages: [] }
  await assert.rejects(client.messages.create(bad), (error) => {
    assert.ok(error instanceof Anthropic.BadRequestError)
    assert.match(error.message, /max_tokens/)
    return true
  })
})
