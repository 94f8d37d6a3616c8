import assert from 'node:assert/strict'
import test from 'node:test'

import { open, run, yields } from './support.mjs'

test('a tutor is served over HTTP, with a provider that is written in JavaScript', async (t) => {
  const tutor = await open(t, yields('hi ', 'there'))
  const server = await tutor.serve({ port: 0 })
  t.after(() => server.stop())
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  assert.deepEqual(await (await fetch(server.url)).json(), { status: 'healthy' })
  const response = await fetch(`${server.url}/api/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ messages: [{ role: 'user', content: 'hello' }] }),
  })
  const reply = await response.json()
  assert.equal(reply.reply_message.content, 'hi there')
  assert.equal((await tutor.session(reply.session_id)).messageCount, 2)
  const metrics = await (await fetch(`${server.url}/metrics`)).text()
  assert.match(metrics, /completions_total\{provider="mine",outcome="completed"\} 1/)
  assert.match(metrics, /store_write_seconds_count\{operation="finish_turn"\} 1/)
  const other = await tutor.serve({ port: 0, host: '127.0.0.1', corsOrigins: ['http://a.example'] })
  await other[Symbol.asyncDispose]()
  await other.stopped
  await assert.rejects(fetch(other.url))
})

test('an address that cannot be listened on is a wrong setting', async (t) => {
  const tutor = await open(t)
  const server = await tutor.serve({ port: 0 })
  t.after(() => server.stop())
  const port = Number(new URL(server.url).port)
  for (const options of [{ port }, { port: -1 }, { port: 1.5 }, { port: 0, host: 'no such host' }, { port: 0, corsOrigins: ['*'] }]) {
    await assert.rejects(tutor.serve(options), { name: 'TutorError', code: 'config' })
  }
})

test('a server keeps the process alive until it is stopped', async () => {
  const { code, stdout, stderr } = await run(`
    import { Tutor } from 'neuro-tutor'
    const tutor = await Tutor.open('memory:')
    const server = await tutor.serve({ port: 0 })
    process.on('exit', () => console.log('exit'))
    setTimeout(async () => { console.log((await fetch(server.url)).status); await server.stop() }, 100).unref()`)
  assert.deepEqual([code, stdout, stderr], [0, '200\nexit\n', ''])
})
