// The examples for Express and Next.js, with the clients of the AI SDK that use them.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test from 'node:test'
import { pathToFileURL } from 'node:url'

import { DefaultChatTransport, readUIMessageStream } from 'ai'

import { directory, PACKAGE } from './support.mjs'

const EXAMPLES = join(PACKAGE, '..', '..', 'examples', 'node')

/** A copy of an example, with this package and others installed. */
function project(t, name, ...packages) {
  const path = directory(t)
  cpSync(join(EXAMPLES, name), path, { recursive: true })
  const modules = join(path, 'node_modules')
  mkdirSync(modules)
  symlinkSync(PACKAGE, join(modules, 'neuro-tutor'))
  for (const name of packages) symlinkSync(join(PACKAGE, 'node_modules', name), join(modules, name))
  return path
}

/** The last state of the message that a stream of chunks makes. */
async function read(chunks) {
  let last
  for await (const message of readUIMessageStream({ stream: chunks, onError: (error) => { throw error } })) last = message
  return last
}

const said = (message) => message.parts.filter(({ type }) => type === 'text').map(({ text }) => text).join('')
const user = (id, ...parts) => ({ id, role: 'user', parts })
const PIXEL = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='

/** What a chat of the SDK does: asks, asks again, has a reply written anew. */
async function chat(transport) {
  const send = async (options) => read(await transport.sendMessages({ chatId: 'c1', trigger: 'submit-message', ...options }))
  const first = user('m1', { type: 'text', text: 'Why is the sky blue?' }, { type: 'file', mediaType: 'image/png', url: PIXEL })
  const reply = await send({ messages: [first] })
  assert.equal(reply.role, 'assistant')
  assert.ok(said(reply).length > 10)
  assert.equal(reply.metadata.sessionId, 'c1')
  const second = user('m2', { type: 'text', text: 'And at night?' })
  const more = await send({ messages: [first, reply, second] })
  assert.notEqual(more.id, reply.id)
  const again = await send({ messages: [first, reply, second], trigger: 'regenerate-message', messageId: more.id })
  assert.notEqual(again.id, more.id)
  return { reply, again }
}

test('the example for Express serves a chat of the AI SDK', async (t) => {
  const path = project(t, 'express', 'express')
  const child = spawn(process.execPath, ['server.mjs'], { cwd: path, env: { PATH: process.env.PATH, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  const [url] = await once(createInterface(child.stdout), 'line')
  const { again } = await chat(new DefaultChatTransport({ api: `${url}/api/chat` }))
  const messages = await (await fetch(`${url}/api/chat/c1/messages`)).json()
  assert.deepEqual(messages.map(({ role }) => role), ['user', 'assistant', 'user', 'assistant'])
  assert.equal(messages[0].content[1].url, PIXEL)
  assert.equal(messages[3].id, again.id)

  const refused = await fetch(`${url}/api/chat/none/messages`)
  assert.deepEqual([refused.status, (await refused.json()).code], [404, 'not_found'])
  const empty = { id: 'c2', messages: [user('m1')] }
  const wrong = await fetch(`${url}/api/chat`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(empty) })
  assert.deepEqual([wrong.status, (await wrong.json()).code], [422, 'invalid_input'])

  // A client that goes away in the middle.
  const abort = new AbortController()
  const chunks = await new DefaultChatTransport({ api: `${url}/api/chat` }).sendMessages({
    chatId: 'c3', trigger: 'submit-message', messages: [user('m1', { type: 'text', text: 'Hi' })], abortSignal: abort.signal,
  })
  await chunks.getReader().read()
  abort.abort()
  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
})

test('the example for Next.js is typed, and its route serves a chat of the AI SDK', async (t) => {
  const path = project(t, 'next')
  const out = join(path, 'out')
  const types = ['--types', 'node', '--typeRoots', join(PACKAGE, 'node_modules', '@types')]
  const options = ['--ignoreConfig', '--strict', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2023,esnext.disposable', ...types]
  const done = spawnSync(join(PACKAGE, 'node_modules', '.bin', 'tsc'), [...options, '--outDir', out, '--rootDir', '.', 'app/api/chat/route.ts', 'tutor.ts'], { cwd: path, encoding: 'utf8' })
  assert.equal(done.status, 0, done.stdout)
  // A bundler finds files without their extensions.
  writeFileSync(join(out, 'package.json'), '{"type":"commonjs"}')
  const common = spawnSync(join(PACKAGE, 'node_modules', '.bin', 'tsc'), ['--ignoreConfig', '--target', 'es2022', '--module', 'commonjs', '--moduleResolution', 'bundler', ...types, '--outDir', out, '--rootDir', '.', 'app/api/chat/route.ts', 'tutor.ts'], { cwd: path, encoding: 'utf8' })
  assert.equal(common.status, 0, common.stdout)
  process.env.TUTOR_DATA = join(path, 'data')
  const { default: route } = await import(pathToFileURL(join(out, 'app', 'api', 'chat', 'route.js')))
  t.after(async () => (await globalThis.tutor).close())
  const fetch = (url, init) => route.POST(new Request(new URL(url, 'http://localhost'), init))
  await chat(new DefaultChatTransport({ api: '/api/chat', fetch }))
  const body = JSON.stringify({ id: 'none', messages: [], trigger: 'regenerate-message', messageId: 'none' })
  assert.equal((await route.POST(new Request('http://localhost/api/chat', { method: 'POST', body }))).status, 400)
})
