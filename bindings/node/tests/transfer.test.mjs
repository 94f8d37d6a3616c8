import assert from 'node:assert/strict'
import { createReadStream, createWriteStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import test from 'node:test'

import { all, directory, open, yields } from './support.mjs'

/** The lines of an export that are sessions, with what is in them. */
const sessions = (pieces) => Buffer.concat(pieces).toString().split('\n').filter((line) => /"(session|message|turn)":/.test(line))

test('what one tutor exports, another one knows exactly', async (t) => {
  const file = join(directory(t), 'backup.jsonl')
  const here = await open(t, yields('hi'))
  const there = await open(t, yields('hi'))
  const { sessionId, turnId } = await here.chat('héllo 😀')
  await here.forOwner('ada').chat('not mine')
  assert.equal((await here.usage()).length, 1)
  await pipeline(here.export(), createWriteStream(file))

  const first = await there.import(createReadStream(file))
  assert.deepEqual(first, {
    read: { sessions: 1, messages: 2, turns: 1, records: 1 },
    added: 1, unchanged: 0, replaced: 0, kept: 0, leftOut: 1,
  })
  assert.deepEqual(await there.messages(sessionId), await here.messages(sessionId))
  assert.deepEqual(await all(there.events(turnId)), await all(here.events(turnId)))
  const again = await there.import(createReadStream(file, { highWaterMark: 7 }))
  assert.deepEqual([again.added, again.unchanged], [0, 1])
  // What was used is written down a moment later, and is not what is compared.
  assert.deepEqual(sessions(await all(there.export())), sessions([readFileSync(file)]))
})

test('everything is exported and imported with its owners if that is asked for', async (t) => {
  const here = await open(t, yields('hi'))
  const there = await open(t)
  await here.chat('mine')
  const ada = await here.forOwner('ada').chat('hers')
  const text = Buffer.concat(await all(here.export({ everyone: true }))).toString()
  assert.equal((await there.import(text, { everyone: true })).added, 2)
  assert.equal((await there.forOwner('ada').session(ada.sessionId)).owner, 'ada')
  const later = new Date(Date.now() + 60_000)
  const nothing = Buffer.concat(await all(here.export({ since: later })))
  assert.equal((await there.import(nothing)).read.sessions, 0)
})

test('what is there and differs is a conflict, unless it is said what to do', async (t) => {
  const here = await open(t, yields('hi'))
  const { sessionId } = await here.chat('hello')
  const before = await all(here.export())
  await here.renameSession(sessionId, 'Another title')
  await assert.rejects(here.import(before), { code: 'conflict' })
  assert.equal((await here.import(before, { onConflict: 'keep' })).kept, 1)
  assert.equal((await here.session(sessionId)).title, 'Another title')
  assert.equal((await here.import(before, { onConflict: 'replace' })).replaced, 1)
  assert.notEqual((await here.session(sessionId)).title, 'Another title')
})

test('an export that is not whole, and options that are none, are refused', async (t) => {
  const tutor = await open(t, yields('hi'))
  await tutor.chat('hello')
  const bytes = Buffer.concat(await all(tutor.export()))
  await assert.rejects(tutor.import([bytes.subarray(0, -10)]), { code: 'invalid_input' })
  await assert.rejects(tutor.import(['no export']), { code: 'invalid_input' })
  await assert.rejects(tutor.import([bytes], { onConflict: 'ask' }), { code: 'invalid_input', context: { field: 'onConflict' } })
  for (const since of ['yesterday', new Date(NaN)]) {
    await assert.rejects(all(tutor.export({ since })), { code: 'invalid_input', context: { field: 'since' } })
  }
})
