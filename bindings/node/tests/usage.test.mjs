// How much somebody may use, what they used, and what they think of it.
import assert from 'node:assert/strict'
import test from 'node:test'

import { Tutor } from 'neuro-tutor'

import { directory, endless, open, yields } from './support.mjs'

const counted = { name: 'counted', stream: () => ['hi', { type: 'usage', inputTokens: 5, outputTokens: 2 }] }

test('what an owner used is counted by the day', async (t) => {
  const tutor = await open(t, counted)
  const ada = tutor.forOwner('ada')
  const { sessionId, message } = await ada.chat('hi')
  await ada.rate(sessionId, message.id, 'up')
  const [day] = await ada.usage()
  const { owner, turns, inputTokens, outputTokens, thumbsUp, thumbsDown } = day
  assert.deepEqual({ owner, turns, inputTokens, outputTokens, thumbsUp, thumbsDown }, { owner: 'ada', turns: 1, inputTokens: 5, outputTokens: 2, thumbsUp: 1, thumbsDown: 0 })
  assert.match(day.day, /^\d{4}-\d\d-\d\d$/)
  assert.deepEqual(await ada.usage({ from: day.day, to: day.day }), [day])
  assert.deepEqual(await ada.usage({ to: '2020-01-01' }), [])
  assert.deepEqual(await tutor.usage(), [])
  await assert.rejects(ada.usage({ from: 'yesterday' }), (error) => error.code === 'invalid_input' && error.context.field === 'from')
})

test('a quota refuses what does not fit, and says of which and until when', async (t) => {
  const tutor = await Tutor.open('memory:', { providers: [counted], quota: { turnsPerDay: 2 } })
  t.after(() => tutor.close())
  assert.deepEqual(await tutor.quota(), { turnsPerDay: 2, tokensPerDay: null, costUsdPerDay: null, uploadBytesPerDay: null })
  await tutor.chat('one')
  await tutor.chat('two')
  await assert.rejects(tutor.chat('three'), ({ code, context, retryAfterMs }) => {
    assert.deepEqual([code, context.limit, context.quota, context.remaining], ['rate_limited', 'turns_per_day', '2', '0'])
    assert.ok(retryAfterMs > 0)
    return true
  })
  await tutor.forOwner('ada').chat('one')
  await assert.rejects(Tutor.open('memory:', { quota: { turnsPerDay: -1 } }), (error) => error.code === 'config' && error.context.field === 'turnsPerDay')
  await assert.rejects(Tutor.open('memory:', { quota: { turns: 1 } }), { code: 'config' })
})

test('what is thought of a message is kept with it, replaced, taken back, and deleted with it', async (t) => {
  const tutor = await open(t, yields('hi'))
  const { sessionId, message } = await tutor.chat('hi')
  const kept = await tutor.rate(sessionId, message.id, 'down', { comment: 'Wrong.' })
  assert.deepEqual([kept.rating, kept.comment, kept.messageId, kept.sessionId], ['down', 'Wrong.', message.id, sessionId])
  assert.deepEqual(await tutor.feedback(sessionId), [kept])
  assert.equal((await tutor.rate(sessionId, message.id, 'up')).comment, null)
  assert.equal(await tutor.rate(sessionId, message.id, null), null)
  assert.deepEqual(await tutor.feedback(sessionId), [])
  await tutor.rate(sessionId, message.id, 'up')
  await tutor.deleteMessage(sessionId, message.id)
  assert.deepEqual(await tutor.feedback(sessionId), [])
  for (const [args, code, field] of [
    [[sessionId, 'nothing', 'up'], 'not_found'],
    [['nothing', message.id, 'up'], 'not_found'],
    [[sessionId, message.id, 'good'], 'invalid_input', 'rating'],
    [[sessionId, message.id], 'invalid_input', 'rating'],
    [[sessionId, message.id, null, { comment: 'x' }], 'invalid_input', 'rating'],
    [[sessionId, message.id, 'up', { comment: ' ' }], 'invalid_input', 'comment'],
    [[sessionId, 5, 'up'], 'invalid_input', 'messageId'],
  ]) {
    await assert.rejects(tutor.rate(...args), (error) => error.code === code && error.context.field === field, args.join())
  }
})

test('a message, a turn and all that runs are found and stopped without their sessions', async (t) => {
  const provider = endless()
  const tutor = await open(t, yields('hi'), provider)
  const { message, turnId } = await tutor.chat('hi', { idempotencyKey: 'k' })
  assert.deepEqual(await tutor.findMessage(message.id), message)
  await assert.rejects(tutor.findMessage('nothing'), { code: 'not_found' })
  assert.equal((await tutor.turnByKey('k')).id, turnId)
  assert.equal(await tutor.turnByKey('other'), null)

  const stream = tutor.stream('hi', { provider: 'endless' })
  await stream.next()
  const { store, location, durability, liveTurns, recoveredTurns } = await tutor.status()
  assert.deepEqual([store, durability, liveTurns, recoveredTurns], ['memory', 'none', 1, 0])
  assert.equal(typeof location, 'string')
  assert.equal(stream.hasEnded, false)
  await tutor.cancelAll()
  assert.equal((await tutor.status()).liveTurns, 0)
  assert.equal(stream.hasEnded, true)
  for await (const _ of stream);
  assert.equal((await tutor.turn(stream.turnId)).status, 'cancelled')

  const again = tutor.stream('hi', { idempotencyKey: 'k' })
  assert.equal(again.isReplay, false)
  await again.next()
  assert.deepEqual([again.isReplay, again.turnId], [true, turnId])
  await again.return()
  const left = tutor.stream('hi', { provider: 'endless' })
  await left.next()
  await left.return()
  assert.equal(left.hasEnded, true)
})

test('providers are replaced while turns run', async (t) => {
  const tutor = await Tutor.open(directory(t), { providers: [yields('old')] })
  t.after(() => tutor.close())
  const ada = tutor.forOwner('ada')
  await tutor.replaceProviders([{ name: 'new', stream: () => ['new'] }, 'demo'])
  assert.equal((await ada.chat('hi')).text, 'new')
  await tutor.replaceProviders(['demo', { name: 'newer', stream: () => ['newer'] }], { defaultProvider: 'newer' })
  assert.equal((await ada.chat('hi')).text, 'newer')
  for (const wrong of [[], 'demo', undefined, [{ kind: 'nothing' }], [5]]) {
    await assert.rejects(tutor.replaceProviders(wrong), { code: 'config' }, String(wrong))
  }
  await assert.rejects(tutor.replaceProviders(['demo'], { defaultProvider: 'gone' }), { code: 'config' })
  assert.equal((await ada.chat('hi')).text, 'newer')
})

test('a conversation from elsewhere is taken over with its first question', async (t) => {
  const tutor = await open(t, yields('hi'))
  const messages = [{ role: 'user', content: 'one' }, { role: 'assistant', content: 'two' }, { role: 'user', content: 'three' }]
  const { sessionId } = await tutor.chat(undefined, { messages })
  const said = (await tutor.messages(sessionId)).items
  assert.deepEqual(said.map(({ content, status }) => [content, status]), [['one', 'imported'], ['two', 'imported'], ['three', 'complete'], ['hi', 'complete']])
  await assert.rejects(tutor.chat('four', { messages }), { code: 'invalid_input' })
})
