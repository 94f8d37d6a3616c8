// What a user does first, for other runtimes than Node: an assertion that fails ends it with an error, and
// it has to end by itself.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { tool, Tutor, TutorError, toUIMessageStreamResponse } from 'neuro-tutor'

const data = mkdtempSync(join(tmpdir(), 'neuro-tutor-'))
process.on('exit', () => rmSync(data, { recursive: true, force: true }))

async function types(stream) {
  const seen = []
  for await (const { type } of stream) seen.push(type)
  return seen
}

const checks = {
  async 'the quick start, and what it stored'() {
    const tutor = await Tutor.open(join(data, 'quick'))
    const stream = tutor.stream('What is photosynthesis?')
    const seen = await types(stream)
    assert.deepEqual([seen[0], seen.at(-1)], ['turn.started', 'turn.finished'])
    const reply = await tutor.chat('And in one sentence?', { session: stream.sessionId })
    assert.ok(reply.text.length > 0)
    await tutor.close()
    const again = await Tutor.open(join(data, 'quick'))
    assert.equal((await again.messages(stream.sessionId)).items.length, 4)
    await again.close()
  },
  async 'a provider and a tool of one\'s own'() {
    let rounds = 0
    const own = {
      name: 'own',
      async *stream({ messages }, { signal }) {
        assert.equal(signal.aborted, false)
        if (rounds++ === 0) {
          yield { type: 'tool.call', callId: 'c', name: 'double', arguments: { n: 2 } }
          yield { type: 'finished', reason: 'tool_calls' }
          return
        }
        await new Promise((go) => setTimeout(go, 5))
        yield 'You said: '
        yield messages[0].content
      },
    }
    const double = tool({ inputSchema: { type: 'object' }, execute: async ({ n }) => 2 * n })
    const tutor = await Tutor.open('memory:', { providers: [own], tools: { double } })
    assert.equal((await tutor.chat('hello')).text, 'You said: hello')
    await tutor.close()
  },
  async 'errors, with their causes'() {
    const cause = new Error('broken')
    const tutor = await Tutor.open('memory:', { providers: [{ name: 'own', stream() { throw cause } }] })
    await assert.rejects(tutor.chat('hi'), (error) => error instanceof TutorError && error.cause === cause)
    await assert.rejects(tutor.chat('hi', { session: 'none' }), { code: 'not_found' })
    await tutor.close()
  },
  async 'leaving and aborting'() {
    let ended = 0
    let began = () => {}
    const endless = {
      name: 'endless',
      async *stream(_, { signal }) {
        try {
          for (;;) {
            yield 'word '
            began()
            await new Promise((go) => setTimeout(go, 1))
            if (signal.aborted) return
          }
        } finally {
          ended++
        }
      },
    }
    const tutor = await Tutor.open('memory:', { providers: [endless] })
    const stream = tutor.stream('hi')
    for await (const { type } of stream) if (type === 'text.delta') break
    assert.equal((await tutor.turn(stream.turnId)).status, 'cancelled')
    const controller = new AbortController()
    began = () => controller.abort()
    await assert.rejects(tutor.chat('hi', { signal: controller.signal }), { name: 'AbortError' })
    await tutor.close()
    // A generator is told to stop, and does so when it is its turn.
    while (ended < 2) await new Promise((go) => setTimeout(go, 1))
  },
  async 'a store of one\'s own'() {
    const { OwnStore } = await import('./own_store.mjs')
    const tutor = await Tutor.open(new OwnStore(join(data, 'own.jsonl')))
    const { sessionId } = await tutor.chat('hi')
    assert.equal((await tutor.messages(sessionId)).items.length, 2)
    await tutor.close()
  },
  async 'a response for useChat, a server, and a backup'() {
    const tutor = await Tutor.open('memory:')
    assert.match(await (await toUIMessageStreamResponse(tutor.stream('hi'))).text(), /text-delta[^]*\[DONE\]/)
    const server = await tutor.serve({ port: 0 })
    assert.equal((await fetch(`${server.url}/api/sessions`)).status, 200)
    await server.stop()
    const lines = []
    for await (const piece of tutor.export()) lines.push(piece)
    const other = await Tutor.open('memory:')
    assert.equal((await other.import(lines)).read.sessions, 1)
    await other.close()
    await tutor.close()
  },
}

for (const [name, check] of Object.entries(checks)) {
  await check()
  console.log(`ok: ${name}`)
}
// It ends by itself, though this one is not closed.
globalThis.idle = await Tutor.open('memory:')
