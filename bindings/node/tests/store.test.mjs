// Stores that are written in JavaScript.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import test from 'node:test'

import { Tutor, TutorError } from 'neuro-tutor'
import { checkProvider, checkStore, providerLaws, ScriptedProvider, storeLaws } from 'neuro-tutor/testing'

import { all, directory, PACKAGE, project } from './support.mjs'

const OWN_STORE = join(PACKAGE, '..', '..', 'examples', 'node', 'own_store.mjs')

/** The example, as a user has it. */
async function example(t) {
  const { path, module } = await project(t, OWN_STORE)
  return { path, OwnStore: module.OwnStore }
}

test('the example store keeps every law', async (t) => {
  const { path, OwnStore } = await example(t)
  assert.ok(storeLaws(() => {}).length > 90)
  await checkStore(() => new OwnStore(join(path, randomUUID())))
})

test('conversations are in the store, also when it is opened again', async (t) => {
  const { path, OwnStore } = await example(t)
  const file = join(path, 'data')
  const tutor = await Tutor.open(new OwnStore(file), { providers: [new ScriptedProvider('one', 'two')] })
  const { sessionId: session, turnId } = await tutor.chat('a')
  const events = await all(tutor.events(turnId))
  await tutor.close()
  const again = await Tutor.open(new OwnStore(file), { providers: [new ScriptedProvider('three')] })
  t.after(() => again.close())
  assert.deepEqual(await all(again.events(turnId)), events)
  await again.chat('b', { session })
  assert.deepEqual((await again.messages(session)).items.map(({ content }) => content), ['a', 'one', 'b', 'three'])
  const other = await Tutor.open('memory:')
  t.after(() => other.close())
  assert.equal((await other.import(again.export())).added, 1)
  assert.equal((await again.erase()).sessions, 1)
})

/** A store of which some methods do something else. */
function spoiled(OwnStore, path, methods) {
  const store = new OwnStore(join(path, randomUUID()))
  return Object.assign(store, methods)
}

test('what a caller keeps with a session comes back exactly, whatever numbers it has', async (t) => {
  const { path, OwnStore } = await example(t)
  const tutor = await Tutor.open(new OwnStore(join(path, 'data')))
  t.after(() => tutor.close())
  const metadata = { $number: '5', nested: { $number: [{ $number: 1 }] }, numbers: [1, -1, 0.5, 1e21, 2 ** 53, -(2 ** 60), 5e-324] }
  const { id } = await tutor.createSession({ metadata })
  assert.deepEqual((await tutor.session(id)).metadata, metadata)
  assert.deepEqual((await tutor.createSession({ metadata: { $number: '5' } })).metadata, { $number: '5' })
})

test('broken laws are named with how they are broken', async (t) => {
  const { path, OwnStore } = await example(t)
  const forgetful = () => spoiled(OwnStore, path, { deleteSession: () => true })
  await assert.rejects(checkStore(forgetful), (error) => {
    assert.match(error.message, /of \d+ laws are broken:\n[^]*\n- a_deleted_session_leaves_nothing: /)
    assert.ok(error.errors.length > 1 && error.errors.length < 20)
    return true
  })
  const [law] = storeLaws(() => spoiled(OwnStore, path, { createSession() { throw new Error('secret') } }))
  await assert.rejects(law.check(), /StoreUnavailable|store_unavailable/)
  const done = []
  await storeLaws(() => new OwnStore(join(path, randomUUID())), { done: (store) => done.push(store) })[0].check()
  assert.ok(done[0] instanceof OwnStore)
})

test('what a store throws is the cause of the error, and a store of ours may be asynchronous', async (t) => {
  const { path, OwnStore } = await example(t)
  const boom = new RangeError('the words of the learner')
  const failing = await Tutor.open(spoiled(OwnStore, path, { beginTurn() { throw boom } }))
  t.after(() => failing.close())
  await assert.rejects(failing.chat('hello'), (error) => {
    assert.deepEqual([error.code, error.cause], ['store_unavailable', boom])
    assert.equal(error.context.method, 'beginTurn')
    assert.doesNotMatch(error.message, /learner/)
    return true
  })
  const own = new TutorError('rate_limited', 'slow down', { retryable: true })
  const refusing = await Tutor.open(spoiled(OwnStore, path, { session: async () => { throw own } }))
  t.after(() => refusing.close())
  await assert.rejects(refusing.session('s'), { code: 'rate_limited', retryable: true, cause: own })
  const odd = await Tutor.open(spoiled(OwnStore, path, { session() { throw new TutorError('conflict', 'busy', { context: { n: 5n, turn: 't1' } }) } }))
  t.after(() => odd.close())
  await assert.rejects(odd.session('s'), { code: 'conflict', context: { method: 'session', turn: 't1' } })
  const deep = JSON.parse('[' .repeat(200) + ']'.repeat(200))
  const nested = await Tutor.open(spoiled(OwnStore, path, { session: () => ({ metadata: { deep } }) }))
  t.after(() => nested.close())
  await assert.rejects(nested.session('s'), { code: 'store_unavailable' })
  const nonsense = await Tutor.open(spoiled(OwnStore, path, { session: async () => ({ canary: 1 }) }))
  t.after(() => nonsense.close())
  await assert.rejects(nonsense.session('s'), { code: 'data_corrupt' })
})

test('what is no store is refused with what is missing', async () => {
  await assert.rejects(Tutor.open({}), (error) => error.code === 'config' && error.context.missing.startsWith('createSession, session, ') && error.context.missing.includes('beginTurn'))
  await assert.rejects(Tutor.open({ ...stub(), get() {} }), (error) => error.code === 'config' && error.context.missing === 'kinds, scan, commit')
  await assert.rejects(Tutor.open({ ...stub(), durability: 'for ever' }), { code: 'config', context: { field: 'durability' } })
  await assert.rejects(Tutor.open(5), { code: 'config' })
})

/** Methods that do nothing. */
function stub() {
  const names = ['createSession', 'session', 'sessions', 'updateSession', 'deleteSession', 'messages', 'deleteMessage', 'beginTurn', 'checkpointTurn', 'finishTurn', 'turn', 'turnByKey', 'runningTurns', 'owners', 'sessionIds', 'wholeSession', 'importSession', 'turns']
  return Object.fromEntries(names.map((name) => [name, () => []]))
}

test('providers of one\'s own keep the laws, and broken ones are found', async () => {
  await checkProvider(() => new ScriptedProvider())
  await checkProvider(() => new ScriptedProvider([new Error('the words of the learner')]))
  await checkProvider(() => ({ name: 'mine', models: ['a', 'b'], *stream() { yield 'hi' } }))
  for (const law of providerLaws(() => ({ name: 'tools', async *stream() { yield { type: 'tool.call', callId: 'c', name: 'n', arguments: {} } } }))) await law.check()
  const twice = { name: 'mine', async *stream() { for (const _ of [1, 2]) yield { type: 'tool.call', callId: 'c', name: 'n', arguments: {} } } }
  await assert.rejects(checkProvider(() => twice), /tool_calls_have_distinct_ids/)
  await assert.rejects(checkProvider(() => ({ name: '', stream: () => ['x'] })), /info_is_stable_and_usable/)
})

test('a scripted provider plays its scripts, waits and throws', async (t) => {
  let open
  const gate = new Promise((resolve) => (open = resolve))
  const provider = new ScriptedProvider('Hello!', ['a', gate, 'b', new TutorError('rate_limited', 'slow down')], 'last')
  const tutor = await Tutor.open('memory:', { providers: [provider], limits: { closeGraceMs: 0 } })
  t.after(() => tutor.close())
  assert.equal((await tutor.chat('Hi')).text, 'Hello!')
  assert.equal(provider.requests[0].messages[0].content, 'Hi')
  const failing = tutor.chat('Hi')
  open()
  await assert.rejects(failing, { code: 'rate_limited', message: 'slow down' })
  assert.deepEqual([(await tutor.chat('Hi')).text, (await tutor.chat('Hi')).text], ['last', 'last'])
  provider.say([new Promise(() => {})])
  await assert.rejects(tutor.chat('Hi', { timeoutMs: 50 }), { code: 'timeout' })
})
