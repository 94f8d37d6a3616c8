import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'

import { Tutor } from 'neuro-tutor'

import { all, directory, open } from './support.mjs'

// A black image of one pixel.
const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==', 'base64')
const IMAGE = { type: 'image', url: `data:image/png;base64,${PNG.toString('base64')}`, mediaType: 'image/png' }
const TEXT = { type: 'file', fileId: `data:text/plain;base64,${Buffer.from('Größe').toString('base64')}`, mediaType: 'text/plain' }

const seeing = () => {
  const asked = []
  return { name: 'mine', asked, async *stream({ messages }) { asked.push(messages.at(-1).content); yield 'I see' } }
}

test('images and files are sent as bytes, blobs, paths and URLs, and are what their bytes are', async (t) => {
  const path = directory(t)
  const image = join(path, 'photo.bin')
  const text = join(path, 'notes.txt')
  writeFileSync(image, PNG)
  writeFileSync(text, 'Größe')
  const tutor = await open(t, seeing())
  const attachments = {
    bytes: [new Uint8Array(PNG), IMAGE],
    'a part of a buffer': [new Uint8Array([1, ...PNG, 2]).subarray(1, -1), IMAGE],
    'an ArrayBuffer': [new Uint8Array(PNG).buffer, IMAGE],
    'a blob': [new Blob([PNG], { type: 'text/plain' }), IMAGE],
    'a path': [image, IMAGE],
    'a URL of a file': [pathToFileURL(text), { ...TEXT, name: 'notes.txt' }],
    'a path with a name': [{ path: text, name: 'sizes' }, { ...TEXT, name: 'sizes' }],
    'bytes with a name': [{ data: Buffer.from('Größe'), name: 'sizes' }, { ...TEXT, name: 'sizes' }],
    'bytes of a text without a name': [Buffer.from('Größe'), TEXT],
    'a file of the web': [new File(['Größe'], 'a.md'), { ...TEXT, name: 'a.md' }],
    'the URL of an image': [new URL('https://a.example/x.png'), { type: 'image', url: 'https://a.example/x.png' }],
  }
  for (const [what, [attachment, expected]] of Object.entries(attachments)) {
    const reply = await tutor.chat('What is this?', { attachments: [attachment] })
    const { content } = (await tutor.messages(reply.sessionId)).items[0]
    assert.deepEqual(content, [{ type: 'text', text: 'What is this?' }, expected], what)
  }
})

test('attachments follow what was said, also when the reply is streamed', async (t) => {
  const provider = seeing()
  const tutor = await open(t, provider)
  await all(tutor.stream([{ type: 'text', text: 'Two:' }], { attachments: [PNG, PNG] }))
  await tutor.chat(undefined, { attachments: [PNG] })
  await tutor.chat('none', { attachments: [] })
  assert.deepEqual(provider.asked.map((content) => content.length), [3, 1, 1])
  assert.deepEqual(provider.asked[0], [{ type: 'text', text: 'Two:' }, IMAGE, IMAGE])
})

test('what cannot be attached is refused before anything is stored', async (t) => {
  const path = directory(t)
  writeFileSync(join(path, 'large'), 'x'.repeat(2000))
  const tutor = await Tutor.open('memory:', { limits: { maxAttachmentBytes: 1000, maxAttachments: 2 } })
  t.after(() => tutor.close())
  const field = { field: 'attachments' }
  const table = [
    [join(path, 'absent.png'), { code: 'invalid_input', context: { ...field, path: join(path, 'absent.png') } }],
    [path, { code: 'invalid_input' }],
    [join(path, 'large'), { code: 'too_large', context: field }],
    [new Blob(['x'.repeat(2000)]), { code: 'too_large', context: field }],
    [Buffer.from('x'.repeat(2000)), { code: 'too_large' }],
    [Buffer.from([0xff, 0xfe, 0xfd]), { code: 'invalid_input' }],
    [5, { code: 'invalid_input', context: field }],
    [null, { code: 'invalid_input', context: field }],
    [new URL('http://a.example/x.png'), { code: 'invalid_input' }],
  ]
  for (const [attachment, error] of table) {
    await assert.rejects(tutor.chat('What is this?', { attachments: [attachment] }), error)
    const stream = tutor.stream('What is this?', { attachments: [attachment] })
    await assert.rejects(stream.next(), error)
    await stream.cancel()
    assert.deepEqual(await all(stream), [])
  }
  await assert.rejects(tutor.chat('x', { attachments: 'photo.png' }), { code: 'invalid_input', context: field })
  await assert.rejects(tutor.chat('x', { attachments: [PNG, PNG, PNG] }), { code: 'too_large' })
  assert.equal((await tutor.sessions()).items.length, 0)
})
