// Whatever comes in wrong is refused with a TutorError that says what to do; nothing crashes, nothing is lost.
import assert from 'node:assert/strict'
import test from 'node:test'

import { fromAiSdk, tool, Tutor, TutorError } from 'neuro-tutor'

import { open, yields } from './support.mjs'

const cyclic = {}
cyclic.self = cyclic
const WRONG = {
  null: null,
  'a number': 5,
  'not a number': NaN,
  'a bigint': 1n,
  'a symbol': Symbol('x'),
  'a function': () => 'x',
  'an array': [1],
  'a circle': cyclic,
  'an object that throws': Object.defineProperty({}, 'id', { enumerable: true, get() { throw new RangeError('mine') } }),
  'a date': new Date(NaN),
  'half a character': '\ud800',
  'a long text': 'x'.repeat(5000),
  'an empty text': '',
}

/** Either it is taken, or refused with an error of ours, or with what the caller's own getter threw. */
async function refused(what, call) {
  try {
    await call()
  } catch (error) {
    if (error instanceof RangeError && error.message === 'mine') return
    assert.ok(error instanceof TutorError, `${what}: ${error?.stack}`)
    assert.notEqual(error.code, 'internal', `${what}: ${error.message}`)
    assert.match(error.message, /\w+ \w+/, what)
  }
}

const METHODS = {
  forOwner: [(tutor, x) => tutor.forOwner(x)],
  chat: [(tutor, x) => tutor.chat(x), (tutor, x) => tutor.chat('hi', x)],
  stream: [(tutor, x) => tutor.stream(x).next(), (tutor, x) => tutor.stream('hi', x).next()],
  events: [(tutor, x) => tutor.events(x).next(), (tutor, x, ids) => tutor.events(ids.turnId, x).next(), (tutor, x, ids) => tutor.events(ids.turnId, { after: x }).next()],
  cancel: [(tutor, x) => tutor.cancel(x)],
  turn: [(tutor, x) => tutor.turn(x)],
  turnByKey: [(tutor, x) => tutor.turnByKey(x)],
  sessions: [(tutor, x) => tutor.sessions(x), (tutor, x) => tutor.sessions({ limit: x }), (tutor, x) => tutor.sessions({ cursor: x })],
  search: [(tutor, x) => tutor.search(x), (tutor, x) => tutor.search('x', x)],
  session: [(tutor, x) => tutor.session(x)],
  createSession: [(tutor, x) => tutor.createSession(x), (tutor, x) => tutor.createSession({ title: x }), (tutor, x) => tutor.createSession({ metadata: x })],
  renameSession: [(tutor, x) => tutor.renameSession(x, 'x'), (tutor, x, ids) => tutor.renameSession(ids.sessionId, x)],
  updateSession: [(tutor, x) => tutor.updateSession(x, {}), (tutor, x, ids) => tutor.updateSession(ids.sessionId, x)],
  deleteSession: [(tutor, x) => tutor.deleteSession(x)],
  messages: [(tutor, x) => tutor.messages(x), (tutor, x, ids) => tutor.messages(ids.sessionId, x), (tutor, x, ids) => tutor.messages(ids.sessionId, { before: x })],
  findMessage: [(tutor, x) => tutor.findMessage(x)],
  siblings: [(tutor, x) => tutor.siblings(x, 'x'), (tutor, x, ids) => tutor.siblings(ids.sessionId, x)],
  setHead: [(tutor, x) => tutor.setHead(x, 'x'), (tutor, x, ids) => tutor.setHead(ids.sessionId, x)],
  deleteMessage: [(tutor, x) => tutor.deleteMessage(x, 'x'), (tutor, x, ids) => tutor.deleteMessage(ids.sessionId, x), (tutor, x, ids) => tutor.deleteMessage(ids.sessionId, 'x', x)],
  context: [(tutor, x) => tutor.context(x), (tutor, x, ids) => tutor.context(ids.sessionId, x), (tutor, x, ids) => tutor.context(ids.sessionId, { tokens: x })],
  rate: [(tutor, x, ids) => tutor.rate(ids.sessionId, ids.message.id, x), (tutor, x, ids) => tutor.rate(ids.sessionId, ids.message.id, 'up', x), (tutor, x, ids) => tutor.rate(ids.sessionId, ids.message.id, 'up', { comment: x })],
  feedback: [(tutor, x) => tutor.feedback(x)],
  usage: [(tutor, x) => tutor.usage(x), (tutor, x) => tutor.usage({ from: x })],
  models: [(tutor, x) => tutor.models(x)],
  replaceProviders: [(tutor, x) => tutor.replaceProviders(x), (tutor, x) => tutor.replaceProviders([x]), (tutor, x) => tutor.replaceProviders(['demo'], x), (tutor, x) => tutor.replaceProviders(['demo'], { defaultProvider: x })],
  export: [(tutor, x) => tutor.export(x).next(), (tutor, x) => tutor.export({ since: x }).next()],
  import: [(tutor, x) => tutor.import(x), (tutor, x) => tutor.import([x]), (tutor, x) => tutor.import([], x)],
  serve: [(tutor, x) => tutor.serve(x).then((server) => server.stop()), (tutor, x) => tutor.serve({ port: 0, host: x }), (tutor, x) => tutor.serve({ port: x ?? 'x' }), (tutor, x) => tutor.serve({ port: 0, corsOrigins: x ?? 5 })],
  close: [(tutor, x) => tutor.close(x), (tutor, x) => tutor.close({ graceMs: x })],
}

test('every method refuses what is wrong with an error that is ours', async (t) => {
  for (const [name, calls] of Object.entries(METHODS)) {
    let tutor
    let ids
    for (const [index, call] of calls.entries()) {
      for (const [what, value] of Object.entries(WRONG)) {
        // For these an empty name is a port or a host that could be taken.
        if (name === 'serve' && (index === 0 || value === '')) continue
        if (tutor === undefined || name === 'close') {
          tutor = await open(t, yields('hi'))
          ids = await tutor.chat('hi')
        }
        await refused(`${name} ${index}, ${what}`, () => call(tutor, value, ids))
      }
    }
    if (name !== 'close') assert.ok((await tutor.forOwner('ada').chat('Still there?')).text.length > 0)
  }
})

test('every option of opening and of asking refuses what is wrong', async (t) => {
  const opening = ['providers', 'defaultProvider', 'owner', 'systemPrompt', 'limits', 'quota', 'files', 'tools', 'catalog', 'nothing']
  const asking = ['session', 'model', 'provider', 'temperature', 'maxTokens', 'preferences', 'idempotencyKey', 'timeoutMs', 'parent', 'edit', 'regenerate', 'output', 'attachments', 'tools', 'messages', 'signal', 'nothing']
  const tutor = await open(t, yields('hi'))
  for (const [what, value] of Object.entries(WRONG)) {
    // Any text is a place.
    if (typeof value !== 'string') await refused(`open, ${what}`, async () => (await Tutor.open(value)).close())
    await refused(`open with ${what}`, async () => (await Tutor.open('memory:', value)).close())
    for (const option of opening) await refused(`open, ${option}: ${what}`, async () => (await Tutor.open('memory:', { [option]: value })).close())
    for (const option of asking) {
      await refused(`chat, ${option}: ${what}`, () => tutor.chat('hi', { [option]: value }))
      await refused(`stream, ${option}: ${what}`, () => tutor.stream('hi', { [option]: value }).next())
      await refused(`attachments, ${what}`, () => tutor.chat('hi', { attachments: [value] }))
    }
    await refused(`fromAiSdk, ${what}`, () => fromAiSdk(value))
    await refused(`tool, ${what}`, async () => tutor.chat('hi', { tools: { it: tool(value) } }))
  }
  assert.equal((await tutor.chat('hi')).text, 'hi')
})

/** Providers that do everything wrong, and the code with which a turn of theirs ends. */
const BROKEN = {
  'throws at once': [() => { throw new Error('x') }, 'provider_unavailable'],
  'throws nothing': [() => { throw undefined }, 'provider_unavailable'],
  'rejects': [async () => { throw null }, 'provider_unavailable'],
  'gives nothing': [() => undefined, 'provider_unavailable'],
  'gives a number': [() => 5, 'provider_unavailable'],
  'gives an iterator that is none': [() => ({ [Symbol.iterator]: () => ({}) }), 'provider_unavailable'],
  'gives results that are none': [() => ({ [Symbol.asyncIterator]: () => ({ next: async () => 5 }) }), 'provider_unavailable'],
  'yields a bigint': [() => [{ type: 'usage', inputTokens: 1n }], 'provider_unavailable'],
  'yields a circle': [() => ['a', cyclic], 'provider_unavailable'],
  'yields a symbol': [() => ['a', Symbol('x')], 'provider_unavailable'],
  'yields null': [() => ['a', null], 'provider_unavailable'],
  'yields what throws': [() => ['a', WRONG['an object that throws']], 'provider_unavailable'],
  'yields nothing at all': [() => [], 'interrupted'],
  'throws while it is left': [() => ({
    [Symbol.asyncIterator]: () => ({
      next: async () => ({ value: { type: 'no such' }, done: false }),
      return: async () => { throw new Error('in return') },
    }),
  }), 'provider_unavailable'],
  'has a return that is no function': [() => ({
    [Symbol.asyncIterator]: () => ({ next: async () => ({ value: { type: 'no such' }, done: false }), return: 5 }),
  }), 'provider_unavailable'],
}

for (const [what, [stream, code]] of Object.entries(BROKEN)) {
  test(`a provider that ${what} ends its turn, and the session goes on`, async (t) => {
    const tutor = await open(t, { name: 'broken', stream }, yields('hi'))
    const asked = tutor.stream('hi')
    let last
    for await (const event of asked) last = event
    assert.deepEqual([last.type, last.error.code], ['turn.failed', code])
    assert.equal((await tutor.chat('hi', { session: asked.sessionId, provider: 'mine' })).text, 'hi')
  })
}

test('a store that resolves to nonsense is an error, whatever it is', async () => {
  const methods = ['createSession', 'session', 'sessions', 'updateSession', 'deleteSession', 'messages', 'deleteMessage', 'beginTurn', 'checkpointTurn', 'finishTurn', 'turn', 'turnByKey', 'owners', 'sessionIds', 'wholeSession', 'importSession', 'turns', 'get', 'kinds', 'scan', 'commit', 'check', 'close']
  for (const [what, value] of Object.entries(WRONG)) {
    const store = Object.fromEntries(methods.map((name) => [name, async () => value]))
    const tutor = await Tutor.open({ ...store, runningTurns: () => [] })
    for (const call of [() => tutor.chat('hi'), () => tutor.sessions(), () => tutor.session('x'), () => tutor.messages('x'), () => tutor.feedback('x'), () => tutor.erase(), () => tutor.close()]) {
      await refused(`a store, ${what}`, call)
    }
  }
})
