// With the real SDK.
import assert from 'node:assert/strict'
import test from 'node:test'

import { Agent, MemorySession, run, setTracingDisabled, tool, Usage } from '@openai/agents'
import { Tutor, TutorError } from 'neuro-tutor'
import { TutorSession } from 'neuro-tutor/openai-agents'
import { z } from 'zod'

import { all, directory, open } from './support.mjs'

setTracingDisabled(true)

/** A model of the SDK that answers with these outputs, one after the other, and remembers what it was asked. */
function model(...outputs) {
  const asked = []
  return {
    asked,
    async getResponse({ input }) {
      asked.push(structuredClone(input))
      return { usage: new Usage(), output: outputs.shift() }
    },
    async *getStreamedResponse(request) {
      const { output } = await this.getResponse(request)
      yield { type: 'response_done', response: { id: 'r', usage: { inputTokens: 1, outputTokens: 1, totalTokens: 2 }, output } }
    },
  }
}

const says = (text) => [{ type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text }] }]

const ITEMS = [
  { type: 'message', role: 'user', content: 'Was ist Licht? 光 😀' },
  { type: 'reasoning', id: 'rs_1', content: [], providerData: { snake_case: 1, camelCase: [null, 1.5, 1e300, -0.1] } },
  { type: 'function_call', callId: 'c1', name: 'lookup', arguments: '{"q":"light"}', status: 'completed' },
  { type: 'function_call_result', callId: 'c1', name: 'lookup', status: 'completed', output: { type: 'image', image: new Uint8Array([0, 1, 255]) } },
  { type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: '' }], z: 1, a: { $bytes: 'no', more: 1 } },
]

test('a run of the SDK is remembered, and the next one goes on from it', async (t) => {
  const data = directory(t)
  const lookup = tool({ name: 'lookup', description: 'Looks up', parameters: z.object({ q: z.string() }), execute: ({ q }) => `found ${q}` })
  const call = { type: 'function_call', callId: 'c1', name: 'lookup', arguments: '{"q":"light"}', status: 'completed' }
  const answers = model([call], says('Light is fast.'), says('You asked about light.'))
  const agent = new Agent({ name: 'Tutor', model: answers, tools: [lookup] })
  const tutor = await Tutor.open(data)
  const first = await run(agent, 'What is light?', { session: new TutorSession(tutor, 'physics') })
  assert.equal(first.finalOutput, 'Light is fast.')
  await tutor.close()

  const again = await Tutor.open(data)
  t.after(() => again.close())
  const session = new TutorSession(again, 'physics')
  const stream = await run(agent, 'What did I ask?', { session, stream: true })
  for await (const _ of stream);
  assert.equal(stream.finalOutput, 'You asked about light.')
  const [, , asked] = answers.asked
  assert.deepEqual(asked.map(({ type, role }) => role ?? type), ['user', 'function_call', 'function_call_result', 'assistant', 'user'])
  const items = await session.getItems()
  assert.deepEqual(items.slice(0, 5).map((item) => item.type ?? 'message'), ['message', 'function_call', 'function_call_result', 'message', 'message'])
  assert.equal(items.length, 6)
})

test("the session does what the SDK's own does, with the same items", async (t) => {
  const tutor = await open(t)
  const ours = new TutorSession(tutor)
  const theirs = new MemorySession({ sessionId: await ours.getSessionId() })
  const both = async (what) => {
    const [a, b] = [await what(ours), await what(theirs)]
    assert.deepEqual(a, b)
    assert.deepEqual(await ours.getItems(), await theirs.getItems())
    return a
  }
  await both((s) => s.getSessionId())
  await both((s) => s.popItem())
  await both((s) => s.addItems(ITEMS))
  await both((s) => s.addItems([]))
  for (const limit of [0, -1, 1, 3, 99]) await both((s) => s.getItems(limit))
  const append = { operationId: 'op1', transaction: { type: 'append_items', items: [ITEMS[0]] } }
  await both((s) => s.applyHistoryTransaction(append))
  await both((s) => s.applyHistoryTransaction(append))
  const replace = { operationId: 'op2', transaction: { type: 'replace_suffix', expectedSuffix: [ITEMS[4], ITEMS[0]], replacement: [ITEMS[1], ITEMS[0], ITEMS[2]] } }
  await both((s) => s.applyHistoryTransaction(replace))
  const replacement = { type: 'function_call', callId: 'c1', name: 'lookup', arguments: '{}' }
  await both((s) => s.applyHistoryMutations({ mutations: [{ type: 'replace_function_call', callId: 'c1', replacement }] }))
  await both((s) => s.applyHistoryMutations({ mutations: [] }))
  for (const wrong of [
    { ...append, operationId: 'op2' },
    { operationId: 'op3', transaction: { ...replace.transaction } },
    { ...append, operationId: ' ' },
  ]) {
    await assert.rejects(theirs.applyHistoryTransaction(wrong))
    await assert.rejects(ours.applyHistoryTransaction(wrong), TutorError)
  }
  await both((s) => s.popItem())
  await both((s) => s.clearSession())
  await both((s) => s.addItems(ITEMS.slice(1)))
})

test('items come back exactly, and what cannot is refused before anything is stored', async (t) => {
  const session = new TutorSession(await open(t), 's')
  await session.addItems(ITEMS)
  const items = await session.getItems()
  assert.deepEqual(items, ITEMS)
  assert.deepEqual(items.map((item) => Object.keys(item)), ITEMS.map((item) => Object.keys(item)))
  const circle = {}
  circle.circle = circle
  for (const wrong of [circle, { n: 1n }, undefined, () => 1]) {
    await assert.rejects(session.addItems([ITEMS[0], wrong]), { code: 'invalid_input' })
  }
  assert.equal((await session.getItems()).length, ITEMS.length)
  await session.replaceHistoryWithCompaction([ITEMS[0]])
  assert.deepEqual(await session.getItems(), [ITEMS[0]])
  await assert.rejects(new TutorSession(await open(t), 'no id').getItems(), { code: 'invalid_input' })
})

test('sessions are an owner\'s alone, exported and erased with them', async (t) => {
  const tutor = await open(t)
  const ada = tutor.forOwner('ada')
  await new TutorSession(ada, 's').addItems(ITEMS)
  assert.deepEqual(await new TutorSession(tutor, 's').getItems(), [])
  const bytes = await all(ada.export())
  const other = (await open(t)).forOwner('ada')
  await other.import(bytes, { everyone: true })
  assert.deepEqual(await new TutorSession(other, 's').getItems(), ITEMS)
  await ada.erase()
  assert.deepEqual(await new TutorSession(ada, 's').getItems(), [])
})

test('of changes at the same time none is lost', async (t) => {
  const tutor = await open(t)
  const add = (n) => new TutorSession(tutor, 's').addItems([{ n }, { n }])
  await Promise.all(Array.from({ length: 16 }, (_, n) => add(n)))
  const items = await new TutorSession(tutor, 's').getItems()
  assert.equal(items.length, 32)
  for (let i = 0; i < 32; i += 2) assert.equal(items[i].n, items[i + 1].n)
})
