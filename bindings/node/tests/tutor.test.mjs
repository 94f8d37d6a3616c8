import assert from 'node:assert/strict'
import test from 'node:test'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { Tutor, TutorError } from 'neuro-tutor'

import { all, deferred, directory, endless, open, run, textOf, yields } from './support.mjs'

test('a conversation is streamed, goes on, and is still there after it was closed', async (t) => {
  const data = directory(t)
  const requests = []
  const provider = {
    name: 'mine',
    async *stream(request) {
      requests.push(request)
      yield 'one '
      yield 'two'
      yield { type: 'usage', inputTokens: 3, outputTokens: 2 }
    },
  }
  const tutor = await Tutor.open(data, { providers: [provider], systemPrompt: 'Be kind.' })
  const stream = tutor.stream('What is photosynthesis?')
  const events = await all(stream)
  assert.deepEqual(
    events.map((event) => event.type),
    ['turn.started', 'text.delta', 'text.delta', 'usage', 'turn.finished'],
  )
  assert.deepEqual(events.map((event) => event.seq), [1, 2, 3, 4, 5])
  assert.equal(stream.turnId, events[0].turnId)
  assert.equal(stream.sessionId, events[0].sessionId)
  assert.deepEqual(events[3], { seq: 4, type: 'usage', inputTokens: 3, outputTokens: 2 })
  const { message, finishReason, status } = events[4]
  assert.equal(message.content, 'one two')
  assert.deepEqual([finishReason, status], ['stop', 'completed'])

  const reply = await tutor.chat('And in one sentence?', { session: stream.sessionId, temperature: 0.5, maxTokens: 9 })
  assert.equal(reply.text, 'one two')
  assert.equal(reply.sessionId, stream.sessionId)
  assert.deepEqual(reply.usage, { inputTokens: 3, outputTokens: 2 })
  const [first, second] = requests
  assert.equal(first.system, 'Be kind.')
  assert.equal(first.streamed, true)
  assert.deepEqual(second.messages.map(({ role, content }) => [role, content]), [
    ['user', 'What is photosynthesis?'],
    ['assistant', 'one two'],
    ['user', 'And in one sentence?'],
  ])
  assert.deepEqual([second.temperature, second.maxTokens, second.owner, second.streamed], [0.5, 9, 'local', false])
  await tutor.close()

  const again = await Tutor.open(pathToFileURL(data), { providers: [provider] })
  t.after(() => again.close())
  const { items, nextCursor } = await again.messages(reply.sessionId)
  assert.deepEqual(items.map((item) => item.role), ['user', 'assistant', 'user', 'assistant'])
  assert.equal(nextCursor, null)
  assert.equal(items[3].id, reply.message.id)
  assert.deepEqual(await all(again.events(stream.turnId)), events)
})

test('the demo provider answers when nobody else is configured', async (t) => {
  const tutor = await open(t)
  const reply = await tutor.chat('Why is the sky blue?')
  assert.match(reply.text, /demo/)
  assert.equal(reply.warnings[0].code, 'demo_provider')
})

test('sessions are created, listed, renamed and deleted', async (t) => {
  const tutor = await open(t, yields('hi'))
  const created = await tutor.createSession({ id: 'algebra', title: 'Algebra', metadata: { course_id: 7, camelCase: [1] } })
  assert.deepEqual(created.metadata, { course_id: 7, camelCase: [1] })
  assert.deepEqual([created.head, created.messageCount, created.owner], [null, 0, 'local'])
  await assert.rejects(tutor.createSession({ id: 'algebra' }), { code: 'conflict' })
  const renamed = await tutor.renameSession('algebra', 'Linear algebra')
  assert.equal(renamed.title, 'Linear algebra')
  assert.deepEqual(renamed.metadata, created.metadata)
  const changed = await tutor.updateSession('algebra', { metadata: {} })
  assert.deepEqual([changed.title, changed.metadata], ['Linear algebra', {}])
  await tutor.chat('hello', { session: 'algebra' })
  assert.equal((await tutor.session('algebra')).messageCount, 2)

  for (const id of ['a', 'b', 'c']) await tutor.createSession({ id })
  const page = await tutor.sessions({ limit: 2 })
  const rest = await tutor.sessions({ cursor: page.nextCursor })
  assert.deepEqual([...page.items, ...rest.items].map((session) => session.id), ['c', 'b', 'a', 'algebra'])
  assert.equal(await tutor.deleteSession('algebra'), true)
  assert.equal(await tutor.deleteSession('algebra'), false)
  await assert.rejects(tutor.session('algebra'), { code: 'not_found', context: { session: 'algebra' } })
})

test('messages are read in pages, in both directions', async (t) => {
  const tutor = await open(t, yields('hi'))
  for (let i = 0; i < 3; i++) await tutor.chat(`question ${i}`, { session: (await tutor.sessions()).items[0]?.id })
  const [{ id }] = (await tutor.sessions()).items
  const whole = (await tutor.messages(id)).items.map((message) => message.id)
  const newest = await tutor.messages(id, { limit: 2 })
  assert.deepEqual(newest.items.map((message) => message.id), whole.slice(4))
  const older = await tutor.messages(id, { limit: 3, before: newest.nextCursor })
  assert.deepEqual(older.items.map((message) => message.id), whole.slice(1, 4))
  const newer = await tutor.messages(id, { limit: 3, after: whole[0] })
  assert.deepEqual(newer.items.map((message) => message.id), whole.slice(1, 4))
})

test('a message can be edited: the new branch is the conversation, the old one is kept', async (t) => {
  const tutor = await open(t, yields('hi'))
  const first = await tutor.chat('hello')
  await tutor.chat('is 7 prime', { session: first.sessionId })
  await tutor.chat('is 9 prime', { session: first.sessionId, parent: first.message.id })
  const active = await tutor.messages(first.sessionId)
  assert.deepEqual(active.items.map((message) => message.content), ['hello', 'hi', 'is 9 prime', 'hi'])
  assert.equal((await tutor.messages(first.sessionId, { all: true })).items.length, 6)
})

test('a message is edited and a reply written again by their ids', async (t) => {
  let count = 0
  const tutor = await open(t, { name: 'mine', async *stream() { yield `reply ${++count}` } })
  const first = await tutor.chat('hello', { session: 'algebra', createSession: true })
  assert.equal(first.sessionId, 'algebra')
  const { items: [said] } = await tutor.messages('algebra')
  await tutor.chat('hello, edited', { session: 'algebra', edit: said.id })
  const again = await tutor.stream(undefined, { session: 'algebra', regenerate: (await tutor.messages('algebra')).items[1].id }).reply()
  assert.equal(again.text, 'reply 3')
  const contents = async (options) => (await tutor.messages('algebra', options)).items.map((message) => message.content)
  assert.deepEqual(await contents(), ['hello, edited', 'reply 3'])
  assert.deepEqual(await contents({ leaf: first.message.id }), ['hello', 'reply 1'])
  await assert.rejects(tutor.chat('x', { session: 'algebra', edit: 'none' }), TutorError)
})

test('a detached turn goes on when its stream is left', async (t) => {
  const go = deferred()
  const tutor = await open(t, { name: 'mine', async *stream() { yield 'a'; await go.promise; yield 'b' } })
  const stream = tutor.stream('hi', { detached: true })
  for await (const event of stream) if (event.type === 'text.delta') break
  go.resolve()
  assert.equal((await tutor.events(stream.turnId).reply()).text, 'ab')
})

test('no handle can name the data of another owner', async (t) => {
  const tutor = await open(t, yields('hi'))
  const ada = tutor.forOwner('ada')
  assert.deepEqual([tutor.owner, ada.owner], ['local', 'ada'])
  const { sessionId, turnId } = await ada.chat('hello')
  assert.equal((await tutor.sessions()).items.length, 0)
  await assert.rejects(tutor.session(sessionId), { code: 'not_found' })
  await assert.rejects(tutor.turn(turnId), { code: 'not_found' })
  await assert.rejects(all(tutor.events(turnId)), { code: 'not_found' })
  assert.equal((await ada.sessions()).items[0].owner, 'ada')
  assert.throws(() => tutor.forOwner('a b'), { name: 'TutorError', code: 'invalid_input' })
})

test('the same request under the same key is the same turn', async (t) => {
  let calls = 0
  const tutor = await open(t, { name: 'mine', async *stream() { yield `call ${++calls}` } })
  const request = { idempotencyKey: 'k1', session: (await tutor.createSession()).id }
  const first = await tutor.chat('hello', request)
  const again = await tutor.chat('hello', request)
  assert.deepEqual(again, first)
  assert.deepEqual((await all(tutor.stream('hello', request))).at(-1).message, first.message)
  assert.equal(calls, 1)
  await assert.rejects(tutor.chat('something else', request), { code: 'conflict' })
})

test('a session has one running turn', async (t) => {
  const tutor = await open(t, endless())
  const stream = tutor.stream('tell me a story')
  await stream.next()
  await assert.rejects(tutor.chat('hello?', { session: stream.sessionId }), {
    code: 'conflict',
    context: { turn: stream.turnId },
  })
  const turn = await tutor.turn(stream.turnId)
  assert.equal(turn.status, 'running')
  assert.equal((await tutor.cancel(stream.turnId)).status, 'cancelled')
  assert.equal((await tutor.session(stream.sessionId)).runningTurn, null)
})

test('a wrong option is named in the spelling in which it was written', async (t) => {
  const tutor = await open(t, yields('hi'))
  for (const [options, field] of [
    [{ temperature: 3 }, 'preferences.temperature'],
    [{ temperature: NaN }, 'temperature'],
    [{ maxTokens: 'many' }, 'maxTokens'],
    [{ maxTokens: 0 }, 'preferences.maxTokens'],
    [{ timeoutMs: -1 }, 'timeoutMs'],
    [{ timeout: 1 }, 'timeout'],
    [{ session: 7 }, 'session'],
    [{ sesion: 'x' }, 'sesion'],
    [{ idempotencyKey: ['secret'] }, 'idempotencyKey'],
    [{ preferences: 'secret' }, 'preferences'],
    [{ signal: {} }, 'signal'],
  ]) {
    const check = (error) => {
      assert.ok(error instanceof TutorError, String(error))
      assert.deepEqual([error.code, error.context.field], ['invalid_input', field])
      // Preferences are the caller's to spell: they go to the engine as they are.
      assert.doesNotMatch(error.message, field === 'preferences' ? /secret/ : /secret|_/)
      return true
    }
    await assert.rejects(tutor.chat('hi', options), check)
    await assert.rejects(all(tutor.stream('hi', options)), check)
  }
  for (const message of [undefined, null, 5, '', '  ', [], {}, [{ type: 'secret' }]]) {
    await assert.rejects(tutor.chat(message), (error) => {
      assert.equal(error.code, 'invalid_input')
      assert.doesNotMatch(error.message, /secret/)
      return true
    })
  }
  await assert.rejects(tutor.chat('hi', { preferences: { big: 1n } }), { code: 'invalid_input' })
  await assert.rejects(tutor.sessions({ limit: 0 }), { code: 'invalid_input' })
  await assert.rejects(tutor.sessions({ cursor: 'x' }), { code: 'invalid_input' })
  await assert.rejects(tutor.turn(5), { code: 'invalid_input' })
  await assert.rejects(tutor.turn('no such turn'), { code: 'invalid_input' })
  await assert.rejects(tutor.turn('no-such-turn'), { code: 'not_found' })
  await assert.rejects(all(tutor.events('x', { after: -1 })), { code: 'invalid_input', context: { field: 'after' } })
  assert.equal((await tutor.sessions()).items.length, 0)
})

test('what is said of wrong options names them as they are in this package', async (t) => {
  const tutor = await open(t, yields('hi'))
  const said = async (call) => {
    const { code, message, context } = await call().then(() => assert.fail('taken'), (error) => error)
    return `${code} ${context.field}: ${message}`
  }
  const request = await said(() => tutor.chat('hi', { sesion: 'x' }))
  assert.match(request, /^invalid_input sesion: .*did you mean session\? known: /)
  const known = request.split('known: ')[1].split(', ')
  for (const name of ['tools', 'attachments', 'signal', 'timeoutMs', 'maxTokens']) assert.ok(known.includes(name), name)
  for (const name of ['clientTools', 'timeout', 'streamed', 'detached', 'message']) {
    assert.ok(!known.includes(name), name)
    await assert.rejects(tutor.chat('hi', { [name]: name === 'timeout' ? 1 : [] }), { code: 'invalid_input', context: { field: name } })
  }
  assert.match(await said(() => tutor.stream('hi', { detach: true }).next()), /did you mean detached/)
  const setting = (options) => said(() => Tutor.open('memory:', options))
  const limits = await setting({ limits: { turnTimeot: 5 } })
  assert.match(limits, /^config turnTimeot: .*did you mean turnTimeoutMs\? .*known: .*maxLiveTurns,.*turnTimeoutMs,.*leaseMs,.*toolTimeoutMs/)
  assert.doesNotMatch(limits, /_|\blease\b/)
  assert.match(await setting({ limits: { maxLiveTurns: 0 } }), /^config maxLiveTurns: the limit maxLiveTurns is not zero/)
  assert.match(await setting({ limits: { leaseMs: 1e15 } }), /^config leaseMs: the limit leaseMs is more than zero and at most a year/)
  assert.match(await setting({ providers: [{ kind: 'openai', keyEnv: 'NEURO_TUTOR_NOT_SET' }] }), /^config keyEnv: keyEnv names NEURO_TUTOR_NOT_SET, which/)
  assert.match(await setting({ providers: [{ kind: 'openai', keyEnv: 'not_set' }] }), /keyEnv names not_set, which/)
  assert.match(await setting({ providers: [{ kind: 'openai', keyFile: '/no/such_file' }] }), /^config keyFile: a keyFile cannot/)
  assert.match(await setting({ providers: [{ kind: 'openai', apiKey: 'k', keyEnv: 'X' }] }), /^config key: .* key \(or apiKey\), keyEnv and keyFile$/)
  assert.match(await setting({ providers: [{ kind: 'openai', idle: 5 }] }), /known: .*apiKey.*idleTimeoutMs.*delayMs/)
  assert.match(await setting({ sistemPrompt: 'x' }), /^config sistemPrompt: .*did you mean systemPrompt\? known: .*providers/)
  assert.match(await said(() => tutor.chat('hi', { preferences: { max_tokens: 'x' } })), /max_tokens a whole number/)
  const named = await open(t, { ...yields('hi'), name: 'my_local', models: ['small_one'] })
  assert.match(await said(() => named.chat('hi', { provider: 'no_such' })), /known: my_local$/)
  assert.match(await said(() => named.chat('hi', { model: 'no_such' })), /my_local has no such model; known: small_one$/)
})

test('options that are none are refused wherever there are any', async (t) => {
  const tutor = await open(t, yields('hi'))
  const { sessionId, message, turnId } = await tutor.chat('hi')
  for (const call of [
    (nothing) => tutor.chat('hi', nothing),
    (nothing) => tutor.stream('hi', nothing).next(),
    (nothing) => tutor.streamUI({ id: 'c', messages: [] }, nothing).next(),
    async (nothing) => tutor.events(turnId, nothing).next(),
    (nothing) => tutor.sessions(nothing),
    (nothing) => tutor.search('hi', nothing),
    (nothing) => tutor.createSession(nothing),
    (nothing) => tutor.updateSession(sessionId, nothing),
    (nothing) => tutor.messages(sessionId, nothing),
    (nothing) => tutor.deleteMessage(sessionId, message.id, nothing),
    (nothing) => tutor.context(sessionId, nothing),
    (nothing) => tutor.rate(sessionId, message.id, 'up', nothing),
    (nothing) => tutor.usage(nothing),
    (nothing) => tutor.replaceProviders(['demo'], nothing),
    (nothing) => tutor.export(nothing).next(),
    (nothing) => tutor.import([], nothing),
    (nothing) => tutor.serve({ port: 0, ...nothing }),
    (nothing) => tutor.files.upload(new Blob(['x']), nothing),
    (nothing) => tutor.files.list(nothing),
    (nothing) => tutor.close(nothing),
  ]) {
    await assert.rejects(call({ nothing: 1 }), (error) => {
      assert.deepEqual([error.name, error.context.field], ['TutorError', 'nothing'], `${call}`)
      return ['invalid_input', 'config'].includes(error.code)
    })
  }
  assert.equal((await tutor.chat('hi', { nothing: undefined })).text, 'hi')
})

test('a wrong setting is refused before anything is opened', async (t) => {
  const data = join(directory(t), 'data')
  const mine = yields('hi')
  for (const [location, options] of [
    ['mysql://user:secret@host/db', {}],
    ['', {}],
    [5, {}],
    [data, { providers: 'demo' }],
    [data, { providers: ['secret'] }],
    [data, { providers: [null] }],
    [data, { providers: [{ kind: 'openai', apikey: 'secret' }] }],
    [data, { providers: [{ kind: 'openai', apiKey: 'sec\nret' }] }],
    [data, { providers: [{ ...mine, name: undefined }] }],
    [data, { providers: [{ ...mine, name: '' }] }],
    [data, { providers: [{ ...mine, models: [] }] }],
    [data, { providers: [mine, mine] }],
    [data, { providers: [mine], defaultProvider: 'other' }],
    [data, { limits: { maxEvents: 0 } }],
    [data, { limits: { turnTimeout: 5 } }],
    [data, { limits: { turnTimeoutMs: '5' } }],
    [data, { limits: { maxEvents: NaN } }],
    [data, { limits: { maxEvents: 5n } }],
    [data, { providers: [{ kind: 'openai', idleTimeout: 5 }] }],
    [data, { providers: [{ kind: 'openai', keyFile: '/no/such' }] }],
    [data, { owner: 'two words' }],
    [data, { owner: 5 }],
    [data, { quota: { turnsPerDay: -1 } }],
    [data, { catalog: { x: { nothing: 1 } } }],
    [data, { files: 5 }],
    [data, { sistemPrompt: 'x' }],
  ]) {
    await assert.rejects(Tutor.open(location, options), (error) => {
      assert.ok(error instanceof TutorError)
      assert.equal(error.code, 'config', `${error}`)
      assert.doesNotMatch(error.message, /secret|sec\nret/)
      return true
    })
  }
})

test('two processes cannot use the same data', async (t) => {
  const data = directory(t)
  const tutor = await Tutor.open(data)
  t.after(() => tutor.close())
  const { stdout } = await run(`
    import { Tutor } from 'neuro-tutor'
    await Tutor.open(${JSON.stringify(data)}).catch((error) => console.log(error.code))`)
  assert.equal(stdout.trim(), 'store_locked')
})

test('a closed tutor refuses, and may be closed again', async (t) => {
  const tutor = await open(t, yields('hi'))
  await tutor.close()
  await tutor.close({ graceMs: 0 })
  await assert.rejects(tutor.chat('hello'), TutorError)
  await assert.rejects(tutor.sessions(), { code: 'store_unavailable' })
})

test('close waits for running turns as long as its grace says', async () => {
  const provider = endless()
  const tutor = await Tutor.open('memory:', { providers: [provider] })
  const stream = tutor.stream('tell me a story')
  await stream.next()
  await tutor.close({ graceMs: 10 })
  await provider.seen.finished.promise
  assert.equal((await all(stream)).at(-1).type, 'turn.failed')
  assert.equal(stream.error.code, 'interrupted')
})

test('a tutor is disposed of at the end of its scope', async () => {
  const tutor = await Tutor.open('memory:')
  await tutor[Symbol.asyncDispose]()
  await assert.rejects(tutor.sessions(), { code: 'store_unavailable' })
})

test('only fromEnv reads the environment', async (t) => {
  const source = (method) => `
    import { Tutor } from 'neuro-tutor'
    const tutor = await Tutor.${method}('memory:')
    console.log(JSON.stringify(await tutor.providers()))
    await tutor.close()`
  const env = { OPENAI_API_KEY: 'k', OPENAI_MODEL: 'gpt-test', ANTHROPIC_API_KEY: '' }
  const configured = await run(source('fromEnv'), { env })
  assert.deepEqual(JSON.parse(configured.stdout), [{ name: 'openai', defaultModel: 'gpt-test', models: null }], configured.stderr)
  const plain = await run(source('open'), { env })
  assert.equal(JSON.parse(plain.stdout)[0].name, 'demo')
})

test('strings that are no Unicode are stored as far as they are', async (t) => {
  const tutor = await open(t, yields('hi'))
  const { sessionId } = await tutor.chat('half \ud83d a pair')
  assert.equal((await tutor.messages(sessionId)).items[0].content, 'half \ufffd a pair')
})

test('many conversations run at once', async (t) => {
  const tutor = await open(t, {
    name: 'mine',
    async *stream({ messages }) {
      await new Promise(setImmediate)
      yield `${messages.at(-1).content}!`
    },
  })
  const replies = await Promise.all(Array.from({ length: 300 }, (_, i) => tutor.chat(`${i}`)))
  assert.deepEqual(replies.map((reply) => reply.text), Array.from({ length: 300 }, (_, i) => `${i}!`))
  assert.equal(textOf(await all(tutor.events(replies[7].turnId))), '7!')
})

test('conversations are found by their words, in pages, and only one\'s own', async (t) => {
  const tutor = await open(t, yields('Photosynthesis turns light into sugar.'))
  const { sessionId } = await tutor.chat('What do plants eat?')
  await tutor.chat('Something else', { session: (await tutor.createSession({ title: 'Stars' })).id })
  await tutor.forOwner('ada').chat('What do plants eat?')
  assert.deepEqual((await tutor.search('SUGAR plants')).items.map(({ id }) => id), [sessionId])
  const first = await tutor.search('sugar', { limit: 1 })
  const rest = await tutor.search('sugar', { limit: 1, cursor: first.nextCursor })
  assert.equal(new Set([...first.items, ...rest.items].map(({ id }) => id)).size, 2)
  assert.deepEqual((await tutor.search('moon')).items, [])
  for (const words of ['', ' ', 'x'.repeat(5000), undefined]) await assert.rejects(tutor.search(words), { code: 'invalid_input' })
})
