// Replies that are written again, messages that are edited or deleted, and what a model is sent of it all.
import assert from 'node:assert/strict'
import test from 'node:test'

import { Tutor } from 'neuro-tutor'

import { all, endless, open } from './support.mjs'

/** A provider that numbers its replies, and remembers what it was asked. */
function counting() {
  const asked = []
  return { name: 'mine', asked, async *stream(request) { asked.push(request); yield `reply ${asked.length}` } }
}

const contents = async (tutor, session) => (await tutor.messages(session)).items.map((message) => message.content)

test('a reply is written again beside the first, and either may be gone on from', async (t) => {
  const tutor = await open(t, counting())
  const first = await tutor.chat('hello')
  const session = first.sessionId
  const again = await tutor.chat(undefined, { session, regenerate: first.message.id })
  assert.deepEqual(await contents(tutor, session), ['hello', 'reply 2'])
  const siblings = await tutor.siblings(session, first.message.id)
  assert.deepEqual(siblings.map(({ id }) => id), [first.message.id, again.message.id])
  assert.deepEqual(await tutor.siblings(session, again.message.id), siblings)

  const { head } = await tutor.setHead(session, first.message.id)
  assert.equal(head, first.message.id)
  assert.deepEqual(await contents(tutor, session), ['hello', 'reply 1'])
  const third = await tutor.chat('more', { session })
  assert.equal(third.message.parentId, (await tutor.messages(session)).items[2].id)
  assert.equal((await tutor.messages(session, { all: true })).items.length, 5)
  assert.equal((await tutor.messages(session, { leaf: again.message.id })).items.at(-1).content, 'reply 2')
})

test('a message is edited on a branch beside it', async (t) => {
  const provider = counting()
  const tutor = await open(t, provider)
  const { sessionId: session } = await tutor.chat('helo')
  const [typo] = (await tutor.messages(session)).items
  const stream = tutor.stream('hello', { session, edit: typo.id })
  await all(stream)
  assert.deepEqual(await contents(tutor, session), ['hello', 'reply 2'])
  assert.deepEqual(provider.asked[1].messages.map(({ content }) => content), ['hello'])
  assert.deepEqual((await tutor.siblings(session, typo.id)).map(({ content }) => content), ['helo', 'hello'])
})

test('a message that others follow is deleted only with them', async (t) => {
  const tutor = await open(t, counting())
  const { sessionId: session } = await tutor.chat('a')
  await tutor.chat('b', { session })
  const { items: [, reply, more] } = await tutor.messages(session)
  await assert.rejects(tutor.deleteMessage(session, more.id), { code: 'conflict' })
  assert.equal(await tutor.deleteMessage(session, more.id, { withBranch: true }), 2)
  assert.deepEqual(await contents(tutor, session), ['a', 'reply 1'])
  assert.equal(await tutor.deleteMessage(session, reply.id), 1)
  for (const call of [
    tutor.deleteMessage(session, reply.id),
    tutor.siblings(session, 'none'),
    tutor.setHead(session, 'none'),
    tutor.context('none'),
  ]) {
    await assert.rejects(call, { code: 'not_found' })
  }
})

test('the context is what a model would be sent', async (t) => {
  const tutor = await Tutor.open('memory:', { providers: [counting()], systemPrompt: 'Be kind.' })
  t.after(() => tutor.close())
  const { sessionId: session } = await tutor.chat('a long story '.repeat(50))
  await tutor.chat('b', { session })
  const whole = await tutor.context(session)
  assert.equal(whole.system, 'Be kind.')
  assert.deepEqual(whole.messages.map(({ role }) => role), ['user', 'assistant', 'user', 'assistant'])
  assert.deepEqual([whole.leftOut, whole.summarized], [null, false])
  const short = await tutor.context(session, { tokens: 40 })
  assert.ok(short.tokens <= 40 && short.tokens < whole.tokens)
  assert.ok(short.messages.length < 4)
  assert.ok((await tutor.messages(session)).items.some(({ id }) => id === short.leftOut))
  assert.equal(short.notices.length, 1)
  for (const tokens of [-1, 1.5, NaN, 2 ** 40, 'many']) {
    await assert.rejects(tutor.context(session, { tokens }), { code: 'invalid_input', context: { field: 'tokens' } })
  }
})

/** The provider of these has a second job: it answers requests for titles and summaries. */
function helpful() {
  const jobs = []
  return {
    name: 'mine',
    jobs,
    async *stream({ messages, system, streamed, owner }) {
      const said = JSON.stringify(messages)
      if (/title/i.test(`${system} ${said}`)) {
        jobs.push('title')
        yield 'Light and leaves'
      } else if (/summar/i.test(`${system} ${said}`)) {
        jobs.push('summary')
        yield 'They spoke of light.'
      } else {
        yield streamed || owner ? 'a reply' : ''
      }
    },
  }
}

test('a title is improved in the background if that is wanted', async (t) => {
  const tutor = await Tutor.open('memory:', { providers: [helpful()], improveTitles: true })
  t.after(() => tutor.close())
  const { sessionId } = await tutor.chat('What is photosynthesis?')
  let session
  // In the background: nothing tells when.
  do session = await tutor.session(sessionId)
  while (session.title !== 'Light and leaves')
  assert.equal(session.ownTitle, false)
  const provider = helpful()
  const plain = await open(t, provider)
  await plain.chat('What is photosynthesis?')
  await plain.close()
  assert.deepEqual(provider.jobs, [])
})

test('what is too old to be sent is summarized in the background if that is wanted', async (t) => {
  const provider = helpful()
  const tutor = await Tutor.open('memory:', { providers: [provider], summarize: true, limits: { contextTokens: 150, summaryTokens: 50 } })
  t.after(() => tutor.close())
  const { sessionId: session } = await tutor.chat('words '.repeat(60))
  let state
  do {
    await tutor.chat('words '.repeat(60), { session })
    state = await tutor.session(session)
  } while (state.summary === undefined && state.messageCount < 100)
  assert.equal(state.summary.text, 'They spoke of light.')
  assert.ok((await tutor.messages(session)).items.some(({ id }) => id === state.summary.through))
})

test('what is known of a model decides what it is sent and what it costs', async (t) => {
  const provider = { name: 'mine', models: ['tiny_Model'], async *stream() { yield 'hi'; yield { type: 'usage', inputTokens: 1_000_000, outputTokens: 0 } } }
  const tutor = await Tutor.open('memory:', { providers: [provider], catalog: { tiny_Model: { contextWindow: 100, input: 2, output: 4 } } })
  t.after(() => tutor.close())
  const reply = await tutor.chat('hello')
  assert.equal(reply.usage.costUsd, 2)
  assert.equal((await tutor.models('mine'))[0].contextWindow, 100)
  await assert.rejects(Tutor.open('memory:', { catalog: { x: { contextWindow: 'many' } } }), { code: 'config' })
})

test('erasing removes all of one owner, also what runs, and nothing of others', async (t) => {
  const provider = endless()
  const tutor = await open(t, provider, { ...counting(), name: 'other' })
  const ada = tutor.forOwner('ada')
  await tutor.chat('mine', { provider: 'other' })
  await ada.chat('hers', { provider: 'other' })
  const running = ada.stream('hers too')
  await running.next()
  assert.equal((await ada.erase()).sessions, 2)
  await provider.seen.finished.promise
  assert.equal((await ada.sessions()).items.length, 0)
  assert.equal((await tutor.sessions()).items.length, 1)
  assert.deepEqual(await ada.erase(), { sessions: 0, records: 0 })
})
