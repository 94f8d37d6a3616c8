// Tools and replies of a form.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'

import { tool, Tutor, TutorError } from 'neuro-tutor'
import { ScriptedProvider } from 'neuro-tutor/testing'
import { z } from 'zod'

import { all, deferred, open } from './support.mjs'

const call = (name, args, callId = 'c1') => ({ type: 'tool.call', callId, name, arguments: args })
const CALLS = { type: 'finished', reason: 'tool_calls' }

/** A tutor whose model makes these calls, then answers. */
async function calling(t, tools, ...calls) {
  const provider = new ScriptedProvider([...calls, CALLS], 'done')
  const tutor = await Tutor.open('memory:', { providers: [provider], tools, limits: { closeGraceMs: 0 } })
  t.after(() => tutor.close())
  return { tutor, provider }
}

const results = (events) => events.filter(({ type }) => type === 'tool.result').map(({ callId, result, isError }) => [callId, result, isError ?? false])

test('a tool is told to the model, called, and its answer told', async (t) => {
  let context
  const inputSchema = { type: 'object', properties: { n: { type: 'number' }, snake_case: {}, camelCase: {} }, required: ['n'], additionalProperties: false }
  const tools = {
    double: { description: 'Doubles a number', inputSchema, execute: ({ n }, told) => ((context = told), { twice: 2 * n }) },
    now: { execute: async () => 'noon' },
  }
  const { tutor, provider } = await calling(t, tools, call('double', { n: 2, snake_case: 1, camelCase: 2 }), call('now', {}, 'c2'))
  const stream = tutor.forOwner('ada').stream('How much?')
  const events = await all(stream)
  assert.deepEqual(results(events), [['c1', { twice: 4 }, false], ['c2', 'noon', false]])
  assert.equal(events.at(-1).type, 'turn.finished')
  const { signal, timeoutMs, ...rest } = context
  assert.deepEqual(rest, { callId: 'c1', sessionId: stream.sessionId, turnId: stream.turnId, owner: 'ada' })
  assert.ok(signal instanceof AbortSignal && timeoutMs > 0)
  const [first, second] = provider.requests
  assert.deepEqual(first.tools[0], { name: 'double', description: 'Doubles a number', parameters: inputSchema })
  assert.equal(first.tools[1].parameters.type, 'object')
  const parts = second.messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content))
  assert.ok(parts.some((part) => part.type === 'tool_result' && part.result.twice === 4))
})

test('a tool with a schema of zod is called with what the schema makes of its arguments', async (t) => {
  const seen = []
  const when = tool({
    inputSchema: z.object({ day: z.string().transform((text) => new Date(text)) }),
    execute: ({ day }) => (seen.push(day), day.getUTCDate()),
  })
  const { tutor } = await calling(t, { when }, call('when', { day: '2026-01-31' }), call('when', { day: 5 }, 'c2'))
  const [[, answer], [, , failed]] = results(await all(tutor.stream('When?')))
  assert.deepEqual([answer, failed], [31, true])
  assert.ok(seen.length === 1 && seen[0] instanceof Date)
  const positive = tool({ inputSchema: z.object({ n: z.number().refine((n) => n > 0, 'secret') }), execute: () => 'called' })
  const checked = await calling(t, { positive }, call('positive', { n: -1 }))
  const [[, told, isError]] = results(await all(checked.tutor.stream('?')))
  assert.ok(isError)
  assert.match(JSON.stringify(told), /do not fit: n/)
})

test('a tool that throws, is slow or answers nonsense is told to the model, and the turn goes on', async (t) => {
  const aborted = deferred()
  const tools = {
    ours: { execute() { throw new TutorError('not_found', 'there is no such star') } },
    theirs: { async execute() { throw new Error('secret') } },
    slow: { async execute(_, { signal }) { await once(signal, 'abort'); aborted.resolve() } },
    nothing: { execute() {} },
    bigint: { execute: () => 1n },
  }
  const provider = new ScriptedProvider([...Object.keys(tools).map((name) => call(name, {}, name)), CALLS], 'done')
  const tutor = await Tutor.open('memory:', { providers: [provider], tools, limits: { toolTimeoutMs: 1000 } })
  t.after(() => tutor.close())
  const events = await all(tutor.stream('?'))
  assert.equal(events.at(-1).message.content.at?.(-1)?.text ?? events.at(-1).message.content, 'done')
  const told = Object.fromEntries(results(events).map(([name, result, isError]) => [name, [JSON.stringify(result), isError]]))
  assert.match(told.ours[0], /no such star/)
  assert.doesNotMatch(told.theirs[0], /secret/)
  assert.deepEqual(told.nothing, ['null', false])
  for (const name of ['ours', 'theirs', 'slow', 'bigint']) assert.ok(told[name][1], name)
  await aborted.promise
})

test('half characters in what a tool gives become U+FFFD, and what is nested too deep is told to the model', async (t) => {
  const deep = (levels) => (levels === 0 ? 'x' : [deep(levels - 1)])
  const tools = {
    object: { execute: () => ({ title: 'Paris 😀'.slice(0, 7), n: 1, 'half \udc00': '\\ud83d' }) },
    text: { execute: () => 'Paris 😀'.slice(0, 7) },
    whole: { execute: () => '😀 \\ud83d \\\ud83d' },
    deep: { execute: () => deep(200) },
  }
  const { tutor, provider } = await calling(t, tools, ...Object.keys(tools).map((name) => call(name, {}, name)))
  const told = Object.fromEntries(results(await all(tutor.stream('?'))).map(([name, result, isError]) => [name, [result, isError]]))
  assert.deepEqual(told.object, [{ title: 'Paris \ufffd', n: 1, 'half \ufffd': '\\ud83d' }, false])
  assert.deepEqual(told.text, ['Paris \ufffd', false])
  assert.deepEqual(told.whole, ['😀 \\ud83d \\\ufffd', false])
  assert.ok(told.deep[1])
  assert.match(told.deep[0], /nested too deep/)
  const parts = provider.requests[1].messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content))
  assert.deepEqual(parts.filter(({ type, isError }) => type === 'tool_result' && isError).map(({ callId }) => callId), ['deep'])
})

test('a tool may throw the oddest error of ours', async (t) => {
  const odd = Object.assign(new TutorError('not_found', 'no such star', { context: { n: 5n }, retryAfterMs: Infinity }), { retryable: 'yes' })
  const { tutor } = await calling(t, { it: { execute() { throw odd } } }, call('it', {}))
  assert.deepEqual(results(await all(tutor.stream('?'))), [['c1', 'no such star', true]])
})

test('stopping the turn stops its tools', async (t) => {
  const started = deferred()
  const aborted = deferred()
  const slow = { async execute(_, { signal }) { started.resolve(); await once(signal, 'abort'); aborted.resolve() } }
  const { tutor } = await calling(t, { slow }, call('slow', {}))
  const stream = tutor.stream('?')
  const reading = all(stream)
  await started.promise
  await stream.cancel()
  await aborted.promise
  assert.equal((await reading).at(-1).status, 'cancelled')
})

test('what is no tool is refused when the tutor is opened', async () => {
  const execute = () => 1
  for (const tools of [[], 5, { x: 5 }, { x: { execute: 5 } }, { x: { execute, description: 5 } }, { 'no name': { execute } }, { x: { execute, inputSchema: 5 } }, { x: { execute, inputSchema: { type: 'nonsense' } } }]) {
    await assert.rejects(Tutor.open('memory:', { tools }), { name: 'TutorError', code: 'config' })
  }
})

const diet = z.object({ eats: z.string(), since: z.string().transform((year) => Number(year)) })

test('a reply of a form is what the schema gives, and its types', async (t) => {
  const provider = new ScriptedProvider('```json\n{"eats": "light", "since": "1779"}\n```')
  const tutor = await Tutor.open('memory:', { providers: [provider] })
  t.after(() => tutor.close())
  for (const output of [diet, { name: 'diet', schema: diet }]) {
    const reply = await tutor.chat('What do plants eat?', { output })
    assert.deepEqual(reply.output, { eats: 'light', since: 1779 })
    assert.deepEqual((await tutor.stream('What?', { output }).reply()).output, { eats: 'light', since: 1779 })
  }
  assert.deepEqual(provider.requests.map(({ output }) => output.name), ['output', 'output', 'diet', 'diet'])
  const plain = await tutor.chat('What?', { output: { type: 'object', required: ['eats'] } })
  assert.deepEqual(plain.output, { eats: 'light', since: '1779' })
  assert.equal((await tutor.chat('What?')).output, null)
  const read = tutor.stream('What?', { output: diet })
  await all(read)
  assert.deepEqual((await read.reply()).output, { eats: 'light', since: 1779 })
})

test('a reply that has not the form is asked for once more, then refused', async (t) => {
  const provider = new ScriptedProvider('light', '{"eats":"light","since":"1"}', 'light', 'light')
  const tutor = await Tutor.open('memory:', { providers: [provider] })
  t.after(() => tutor.close())
  assert.equal((await tutor.chat('What?', { output: diet })).output.eats, 'light')
  assert.equal(provider.requests.length, 2)
  await assert.rejects(tutor.chat('What?', { output: diet }), { code: 'provider_rejected', retryable: true })
  const strict = z.object({ eats: z.string() }).refine(() => false)
  provider.say('{"eats":"light"}')
  await assert.rejects(tutor.chat('What?', { output: strict }), { code: 'provider_rejected', retryable: true })
  for (const output of [5, 'x', [], { type: 'nonsense' }, { name: 'no name', schema: {} }]) {
    await assert.rejects(tutor.chat('What?', { output }), { name: 'TutorError', code: 'invalid_input' })
  }
})

const confirm = tool({ description: 'Asks the learner', inputSchema: { type: 'object', properties: { question: { type: 'string' } } } })

test('a tool without execute is the caller\'s: its calls end the reply, and the next message has the results', async (t) => {
  const args = { question: 'Shall I go on?' }
  const { tutor, provider } = await calling(t, { confirm }, call('confirm', args))
  const reply = await tutor.chat('Teach me.')
  assert.deepEqual([reply.finishReason, reply.toolCalls], ['tool_calls', [{ callId: 'c1', name: 'confirm', arguments: args }]])
  assert.equal(provider.requests[0].tools[0].name, 'confirm')
  const results = reply.toolCalls.map(({ callId }) => ({ type: 'tool_result', callId, result: 'yes' }))
  const next = await tutor.chat(results, { session: reply.sessionId })
  assert.deepEqual([next.text, next.toolCalls], ['done', []])
  const told = provider.requests[1].messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content))
  assert.ok(told.some((part) => part.type === 'tool_result' && part.callId === 'c1' && part.result === 'yes'))
  await assert.rejects(tutor.chat([{ type: 'tool_result', callId: 'made up', result: 1 }], { session: reply.sessionId }), { code: 'invalid_input' })
})

test('tools of one request are there for it alone, whoever runs them', async (t) => {
  const called = []
  const provider = new ScriptedProvider([call('double', { n: 2 }), call('confirm', {}, 'c2'), CALLS], 'done')
  const tutor = await Tutor.open('memory:', { providers: [provider] })
  t.after(() => tutor.close())
  const double = { inputSchema: { type: 'object' }, execute: ({ n }) => (called.push(n), 2 * n) }
  const reply = await tutor.forOwner('ada').chat('?', { tools: { double, confirm } })
  assert.deepEqual([called, reply.toolCalls.map(({ name }) => name)], [[2], ['confirm']])
  assert.deepEqual(provider.requests[0].tools.map(({ name }) => name).sort(), ['confirm', 'double'])
  const streamed = new ScriptedProvider([call('double', { n: 3 }), CALLS], 'done')
  await tutor.replaceProviders([streamed])
  assert.equal((await tutor.stream('?', { tools: { double } }).reply()).text, 'done')
  await tutor.chat('?')
  assert.deepEqual([called, streamed.requests.at(-1).tools], [[2, 3], []])
})

test('functions of one request are forgotten with it', async (t) => {
  const tutor = await open(t, { name: 'fast', stream: () => ['hi'] })
  const kept = []
  const make = () => {
    const tools = { it: { execute: () => 1 } }
    kept.push(new WeakRef(tools.it))
    return tools
  }
  for (let round = 0; round < 20; round++) {
    await tutor.chat('?', { tools: make() })
    await tutor.chat('?', { tools: make(), session: 'no-such' }).catch(() => {})
    await tutor.chat('?', { tools: { 'no name': make().it } }).catch(() => {})
    for await (const _ of tutor.stream('?', { tools: make() })) break
  }
  // What is forgotten is collected, though not at once.
  const { setFlagsFromString } = await import('node:v8')
  setFlagsFromString('--expose-gc')
  const gc = (await import('node:vm')).runInNewContext('gc')
  // Looking at one keeps it alive for this turn of the event loop, so that comes last.
  const alive = () => kept.filter((ref) => ref.deref() !== undefined).length
  let left = kept.length
  for (let wait = 0; wait < 100 && left > 2; wait++) {
    await new Promise((go) => setTimeout(go, 20))
    gc()
    left = alive()
  }
  assert.ok(left <= 2, `${left} functions are kept`)
})

test('wrong tools of a request are refused, and say which', async (t) => {
  const tutor = await open(t, { name: 'fast', stream: () => ['hi'] })
  for (const tools of [5, [], { it: 5 }, { it: { execute: 5 } }, { it: { inputSchema: 5 } }, { 'no name': confirm }, { 'no name': { execute() {} } }, { it: { inputSchema: { type: 5 }, execute() {} } }]) {
    await assert.rejects(tutor.chat('?', { tools }), { code: 'invalid_input' }, JSON.stringify(tools))
    await assert.rejects(tutor.stream('?', { tools }).next(), { code: 'invalid_input' }, JSON.stringify(tools))
  }
})
