// One conversation through every client, under one id; it reads the same from each.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Anthropic from '@anthropic-ai/sdk'
import { HttpAgent } from '@ag-ui/client'
import OpenAI from 'openai'

import { chat, releases, words } from './chat.mjs'
import { serve } from './server.mjs'

let server
before(async () => {
  server = await serve()
})
after(() => server.stop())

test('one thread is reachable through every protocol', async () => {
  const id = 'together'
  const headers = { 'X-Session-Id': id }
  const said = []

  await fetch(`${server.url}/api/sessions`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ id }),
  })
  said.push('seed')
  await fetch(`${server.url}/api/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ session_id: id, messages: [{ role: 'user', content: 'seed' }] }),
  }).then((response) => assert.equal(response.status, 200))

  said.push('openai')
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  await openai.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'openai' }] }, { headers })

  said.push('anthropic')
  const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'none' })
  await anthropic.messages.create({ model: 'm', max_tokens: 10, messages: [{ role: 'user', content: 'anthropic' }] }, { headers })

  said.push('openai in Python', 'anthropic in Python')
  const script = fileURLToPath(new URL('../together.py', import.meta.url))
  await promisify(execFile)(process.env.TUTOR_TEST_PYTHON, [script, server.url, id])

  const history = async () => (await server.get(`/api/sessions/${id}/messages?format=ui`)).messages
  for (const [name, release] of Object.entries(releases)) {
    said.push(name)
    const c = chat(release, { url: server.url, id, messages: await history() })
    await c.sendMessage({ text: name })
    assert.equal(c.status, 'ready')
    assert.deepEqual(c.messages.map(words), (await history()).map(words))
  }

  said.push('ag-ui')
  const agent = new HttpAgent({ url: `${server.url}/agui`, threadId: id })
  await agent.runAgent()
  agent.addMessage({ id: 'ag-ui-1', role: 'user', content: 'ag-ui' })
  await agent.runAgent()

  const { messages } = await server.get(`/api/sessions/${id}/messages`)
  const contents = messages.map((m) => m.content)
  assert.deepEqual(messages.filter((m) => m.role === 'user').map((m) => m.content), said)
  assert.equal(messages.length, 2 * said.length)
  assert.deepEqual(agent.messages.map((m) => m.content), contents)
  assert.deepEqual((await history()).map(words), contents)
  const of = async (format) => (await server.get(`/api/sessions/${id}/messages?format=${format}`)).messages
  assert.deepEqual((await of('openai')).map((m) => m.content), contents)
  assert.deepEqual((await of('anthropic')).map((m) => m.content[0].text), contents)
  assert.deepEqual((await of('agui')).map((m) => m.content), contents)
})
