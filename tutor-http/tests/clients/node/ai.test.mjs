// The AI SDK's `useChat`, release by release: send, stream, regenerate, edit, stop, reload, resume.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { chat, releases, words } from './chat.mjs'
import { serve } from './server.mjs'

for (const [name, release] of Object.entries(releases)) {
  describe(name, () => {
    let server
    const open = (id, options = {}) => chat(release, { url: server.url, id, ...options })
    const stored = async (id) => (await server.get(`/api/sessions/${id}/messages?format=ui`)).messages

    before(async () => {
      server = await serve({ delay: 5 })
    })
    after(() => server.stop())

    test('a message is sent, its reply streamed, and the conversation goes on', async () => {
      const sizes = new Set()
      const c = open('send')
      const replace = c.state.replaceMessage
      c.state.replaceMessage = (index, message) => {
        sizes.add(words(message).length)
        replace(index, message)
      }
      await c.sendMessage({ text: 'What is photosynthesis?' })
      assert.equal(c.status, 'ready')
      assert.equal(c.error, undefined)
      assert.ok(sizes.size > 3, 'the reply grew')
      await c.sendMessage({ text: 'And in one sentence?' })
      assert.deepEqual(c.messages.map((m) => m.role), ['user', 'assistant', 'user', 'assistant'])
      assert.equal(c.messages[1].metadata.sessionId, 'send')
      const history = await stored('send')
      assert.deepEqual(history.map((m) => m.id), c.messages.map((m) => m.id))
      assert.deepEqual(history.map(words), c.messages.map(words))
      const { title } = await server.get('/api/sessions/send')
      assert.match(title, /photosynthesis/)
    })

    test('a reply is regenerated beside the old one, with and without its id', async () => {
      const c = open('regenerate')
      await c.sendMessage({ text: 'Why is the sky blue?' })
      const first = c.messages[1].id
      await c.regenerate()
      const second = c.messages[1].id
      await c.regenerate({ messageId: second })
      assert.equal(c.status, 'ready')
      assert.equal(c.messages.length, 2)
      assert.equal(new Set([first, second, c.messages[1].id]).size, 3)
      const history = await stored('regenerate')
      assert.deepEqual(history.map((m) => m.id), c.messages.map((m) => m.id))
      const { messages } = await server.get('/api/sessions/regenerate/messages?branch=all')
      assert.equal(messages.length, 4)
    })

    test('a message is edited, also the first one', async () => {
      const c = open('edit')
      await c.sendMessage({ text: 'one' })
      await c.sendMessage({ text: 'two' })
      await c.sendMessage({ text: 'second thought', messageId: c.messages[2].id })
      assert.deepEqual((await stored('edit')).filter((m) => m.role === 'user').map(words), ['one', 'second thought'])
      await c.sendMessage({ text: 'from the start', messageId: c.messages[0].id })
      assert.equal(c.status, 'ready')
      assert.deepEqual((await stored('edit')).filter((m) => m.role === 'user').map(words), ['from the start'])
      const { messages } = await server.get('/api/sessions/edit/messages?branch=all')
      assert.equal(messages.length, 8)
    })

    test('the stop route ends the reply, and what had arrived is kept', async () => {
      const c = open('stop')
      let stopped
      const replace = c.state.replaceMessage
      c.state.replaceMessage = (index, message) => {
        replace(index, message)
        if (words(message)) stopped ??= fetch(`${server.url}/api/chat/stop/stop`, { method: 'POST' }).then((r) => r.json())
      }
      await c.sendMessage({ text: 'Tell me much' })
      assert.equal((await stopped).stopped, true)
      assert.equal(c.status, 'ready')
      const history = await stored('stop')
      assert.equal(history[1].metadata.status, 'partial')
      assert.equal(words(history[1]), words(c.messages[1]))
      const again = await (await fetch(`${server.url}/api/chat/stop/stop`, { method: 'POST' })).json()
      assert.deepEqual(again, { stopped: false })
    })

    test('the page is reloaded in the middle of a reply, and resumes it', async () => {
      const c = open('resume')
      let left
      const started = new Promise((resolve) => {
        const replace = c.state.replaceMessage
        const push = c.state.pushMessage
        const seen = (message) => message.role === 'assistant' && resolve()
        c.state.replaceMessage = (index, message) => (replace(index, message), seen(message))
        c.state.pushMessage = (message) => (push(message), seen(message))
      })
      left = c.sendMessage({ text: 'What is photosynthesis?' })
      await started
      await c.stop()
      await left
      // The client is gone; the reply is written on. Another page has only what is stored.
      const page = open('resume', { messages: await stored('resume') })
      assert.deepEqual(page.messages.map((m) => m.role), ['user'])
      await page.resumeStream()
      assert.equal(page.status, 'ready')
      const history = await stored('resume')
      assert.deepEqual(page.messages.map((m) => m.id), history.map((m) => m.id))
      assert.equal(words(page.messages[1]), words(history[1]))
      assert.equal(history[1].metadata.status, 'complete')
      const ended = await fetch(`${server.url}/api/chat/resume/stream`)
      assert.equal(ended.status, 204)
    })

    test('what is wrong with a request is told', async () => {
      let told
      const c = open('not an id', { onError: (error) => (told = error) })
      await c.sendMessage({ text: 'hi' })
      assert.equal(c.status, 'error')
      assert.match(told.message, /consists of ASCII letters/)
    })
  })
}
