// Uploaded files, and messages that name them.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'

import { Tutor, TutorError } from 'neuro-tutor'
import { ScriptedProvider } from 'neuro-tutor/testing'

import { directory, open } from './support.mjs'

const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')

test('a file is uploaded, listed, named in a message, read and deleted', async (t) => {
  const path = directory(t)
  const provider = new ScriptedProvider('I see.')
  const tutor = await Tutor.open(join(path, 'data'), { providers: [provider] })
  t.after(() => tutor.close())
  assert.ok(!existsSync(join(path, 'data-files')), 'nothing is made before there is a file')
  const text = await tutor.files.upload(Buffer.from('A leaf is green.'), { name: '../leaf.txt' })
  assert.deepEqual([text.name, text.mediaType, text.bytes], ['leaf.txt', 'text/plain', 16])
  const image = await tutor.files.upload(new File([PNG], 'dot.png'))
  assert.equal(image.mediaType, 'image/png')
  assert.ok(readdirSync(join(path, 'data-files')).length > 0)

  const first = await tutor.files.list({ limit: 1 })
  assert.deepEqual(first.items, [text])
  const second = await tutor.files.list({ cursor: first.nextCursor })
  assert.deepEqual([second.items, second.nextCursor], [[image], null])
  assert.deepEqual(await tutor.files.get(image.id), image)
  assert.deepEqual(Buffer.from(await tutor.files.read(image.id)), PNG)

  const reply = await tutor.chat('What is this?', { attachments: [text, image] })
  assert.equal(reply.text, 'I see.')
  const parts = provider.requests[0].messages.at(-1).content
  assert.match(parts.map((part) => part.text ?? part.url).join(), /A leaf is green\.[^]*data:image\/png/)
  const [asked] = (await tutor.messages(reply.sessionId)).items
  assert.deepEqual(asked.content[1], { type: 'file', fileId: text.id, name: 'leaf.txt', mediaType: 'text/plain' })

  assert.equal(await tutor.files.delete(text.id), true)
  assert.equal(await tutor.files.delete(text.id), false)
  await assert.rejects(tutor.chat('Again?', { attachments: [text] }), { code: 'invalid_input' })
})

test('a path, a URL, a blob, a stream and pieces are uploaded alike', async (t) => {
  const tutor = await open(t)
  const path = join(directory(t), 'a.md')
  writeFileSync(path, '# Light')
  const pieces = ['# L', 'ight'].map((text) => Buffer.from(text))
  for (const file of [path, pathToFileURL(path), new Blob(pieces), new Response('# Light').body, pieces, (async function* () { yield* pieces })()]) {
    const { id, bytes } = await tutor.files.upload(file)
    assert.equal(bytes, 7)
    assert.equal(Buffer.from(await tutor.files.read(id)).toString(), '# Light')
  }
  assert.equal((await tutor.files.list()).items[0].mediaType, 'text/markdown')
})

test('files are the owner\'s, and go with them', async (t) => {
  const tutor = await open(t)
  const ada = tutor.forOwner('ada')
  const { id } = await ada.files.upload(Buffer.from('mine'))
  await assert.rejects(tutor.files.get(id), { code: 'not_found' })
  await assert.rejects(tutor.files.read(id), { code: 'not_found' })
  assert.equal(await tutor.files.delete(id), false)
  assert.ok((await ada.erase()).records > 0)
  await assert.rejects(ada.files.get(id), { code: 'not_found' })
})

test('what is no file, or too much, is refused and leaves nothing', async (t) => {
  const tutor = await Tutor.open('memory:', { files: { maxFileBytes: 100, maxFiles: 2 }, quota: { uploadBytesPerDay: 120 } })
  t.after(() => tutor.close())
  const upload = (file, options) => tutor.files.upload(file, options)
  for (const [file, code, options] of [
    [Buffer.from(''), 'invalid_input'],
    [Buffer.from([0xff, 0xfe, 0xfd, 0]), 'invalid_input'],
    [Buffer.from('text'), 'invalid_input', { name: 'a.png' }],
    [Buffer.alloc(101, 'a'), 'too_large'],
    ['/no/such/file', 'invalid_input'],
    [new URL('https://example.com/a.png'), 'invalid_input'],
    [undefined, 'invalid_input'],
    [5, 'invalid_input'],
    [{}, 'invalid_input'],
    [[5], 'invalid_input'],
  ]) {
    await assert.rejects(upload(file, options), (error) => error instanceof TutorError && error.code === code, String(file))
  }
  const cause = new Error('my stream broke')
  await assert.rejects(upload((async function* () { yield Buffer.from('a'); throw cause })()), cause)
  assert.deepEqual((await tutor.files.list()).items, [])
  await upload(Buffer.alloc(90, 'a'))
  await assert.rejects(upload(Buffer.alloc(90, 'a')), (error) => error.code === 'rate_limited' && error.context.limit === 'upload_bytes_per_day')
  await upload(Buffer.alloc(9, 'a'))
  await assert.rejects(upload(Buffer.from('a')), { code: 'too_large' })
  await assert.rejects(tutor.files.get(5), { code: 'invalid_input' })
  await assert.rejects(Tutor.open('memory:', { files: 5 }), { code: 'config' })
  await assert.rejects(Tutor.open('memory:', { files: { maxFile: 5 } }), { code: 'config' })
})

test('a served tutor takes the same files over HTTP', async (t) => {
  const tutor = await open(t)
  const server = await tutor.serve({ port: 0 })
  t.after(() => server.stop())
  const form = new FormData()
  form.append('file', new Blob(['A leaf is green.']), 'leaf.txt')
  const uploaded = await (await fetch(`${server.url}/api/files`, { method: 'POST', body: form })).json()
  assert.deepEqual(await tutor.files.get(uploaded.id).then(({ name, bytes }) => [name, bytes]), ['leaf.txt', 16])
})
