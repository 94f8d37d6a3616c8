// The stories that every face plays, by this package and by the server that it serves.
import assert from 'node:assert/strict'
import test from 'node:test'

import { Tutor, TutorError } from 'neuro-tutor'
import { ScriptedProvider } from 'neuro-tutor/testing'

import { camel, play, request, scenarios, scripts, snake, textOf, told, tools, withTexts } from './scenarios.mjs'
import { directory } from './support.mjs'

/** A tutor that plays a scenario. */
class Node {
  #scenario
  #location
  #provider
  #open
  #streams = new Map()
  tutor

  static async open(t, scenario) {
    const node = new Node()
    node.#scenario = scenario
    node.#location = scenario.durable ? directory(t) : 'memory:'
    const script = scripts(scenario, TutorError)
    node.#open = script.open
    node.#provider = new ScriptedProvider(...script.scripts)
    await node.reopen()
    t.after(() => node.tutor.close({ graceMs: 0 }))
    return node
  }

  async reopen() {
    await this.tutor?.close({ graceMs: 0 })
    const { limits = {}, system_prompt: systemPrompt } = this.#scenario
    this.tutor = await Tutor.open(this.#location, {
      providers: [this.#provider],
      tools: tools(this.#scenario, TutorError),
      limits: camel(limits),
      ...(systemPrompt && { systemPrompt }),
    })
  }

  error({ code, message, retryable, retryAfterMs, context }) {
    return { code, message, retryable, retry_after_ms: retryAfterMs, context: snake(context ?? {}) }
  }

  async play(step) {
    const tutor = step.owner === undefined ? this.tutor : this.tutor.forOwner(step.owner)
    const { session, message, turn, limit, cursor, before, after, leaf, all } = step
    switch (step.do) {
      case 'chat': {
        const { message, ...options } = camel(request(step))
        return snake(await tutor.chat(message, options))
      }
      case 'stream': {
        const { message, ...options } = camel(request(step))
        const reading = { stream: tutor.stream(message, options), events: [] }
        if (step.as !== undefined) this.#streams.set(step.as, reading)
        return read(reading, step.until)
      }
      case 'read':
        return read(this.#streams.get(step.stream))
      case 'close':
        await this.#streams.get(step.stream).stream.return()
        return null
      case 'events':
        return read({ stream: tutor.events(turn, { after }), events: [] })
      case 'cancel':
        return snake(await tutor.cancel(turn))
      case 'turn':
        return snake(await tutor.turn(turn))
      case 'open':
        this.#open(step.gate)
        return null
      case 'messages':
        return snake(withTexts(await tutor.messages(session, { limit, before, after, leaf, all })))
      case 'siblings':
        return snake(withTexts(await tutor.siblings(session, message)))
      case 'set_head':
        return snake(await tutor.setHead(session, message))
      case 'delete_message':
        return tutor.deleteMessage(session, message, { withBranch: step.with_branch ?? false })
      case 'session':
        return snake(await tutor.session(session))
      case 'delete_session':
        return tutor.deleteSession(session)
      case 'sessions':
        return snake(await tutor.sessions({ limit, cursor }))
      case 'create_session':
        return snake(await tutor.createSession({ id: session, title: step.title, metadata: step.metadata }))
      case 'rename_session':
        return snake(await tutor.renameSession(session, step.title))
      case 'context':
        return snake(await tutor.context(session, { tokens: step.tokens }))
      case 'reopen':
        this.#streams.clear()
        return this.reopen()
      case 'requests':
        return this.#provider.requests.map(({ messages, ...rest }) => snake({
          ...rest,
          messages: messages.map((message) => ({ ...message, text: textOf(message.content) })),
        }))
      default:
        throw new Error(`${step.do} is nothing that a scenario does`)
    }
  }
}

/** Reads up to an event of this type, or to the end. */
async function read(reading, until) {
  const { stream, events } = reading
  for (;;) {
    const { done, value } = await stream.next()
    if (done) break
    events.push(snake(value))
    if (value.type === until) break
  }
  const first = events[0]
  return told(events, stream.turnId ?? first?.turn_id, stream.sessionId ?? first?.session_id)
}

test('there are scenarios', () => assert.ok(scenarios.length >= 10))

for (const scenario of scenarios) {
  test(`Node: ${scenario.law}`, { timeout: 60_000 }, async (t) => play(scenario, await Node.open(t, scenario)))
}

/** Whether a scenario can be told in HTTP: requests have no forms there, contexts are not shown, and turns go on. */
const overHttp = ({ steps }) =>
  steps.every((step) => step.do !== 'context' && step.output === undefined && (step.do !== 'stream' || step.as === undefined || step.detached || !closes(steps, step.as)))
const closes = (steps, name) => steps.some((step) => step.do === 'close' && step.stream === name)

class HttpError extends Error {
  constructor(status, { detail, code, ...facts } = {}) {
    super(typeof detail === 'string' ? detail : JSON.stringify(detail))
    // A key that names another request is a wrong header there.
    const isKey = Array.isArray(detail) && /^idempotency-key$/i.test(detail[0]?.loc?.[1])
    this.code = isKey ? 'conflict' : (code ?? (status === 422 ? 'invalid_input' : undefined))
    this.facts = facts
  }
}

/** A server that plays a scenario, of which only its answers are seen. */
class Http {
  #node
  #servers = new Map()
  #streams = new Map()

  static async open(t, scenario) {
    const http = new Http()
    http.#node = await Node.open(t, scenario)
    t.after(() => http.#stop())
    return http
  }

  async #stop() {
    for (const server of this.#servers.values()) await server.stop()
    this.#servers.clear()
  }

  async #fetch(owner, path, { method = 'GET', body, headers = {} } = {}) {
    const { tutor } = this.#node
    if (!this.#servers.has(owner)) {
      this.#servers.set(owner, await (owner === undefined ? tutor : tutor.forOwner(owner)).serve({ port: 0 }))
    }
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { ...headers, 'content-type': 'application/json' } }
    const response = await fetch(`${this.#servers.get(owner).url}${path}`, { method, ...sent })
    if (response.status >= 400) throw new HttpError(response.status, await response.json())
    return response
  }

  async #json(...args) {
    return (await this.#fetch(...args)).json()
  }

  error({ code, message, facts = {} }) {
    const { turn_id: turn, retryable, retry_after_ms } = facts
    return { code, message, retryable, retry_after_ms, context: { turn } }
  }

  #chat(step, stream) {
    const { message, messages, session, parent, edit, regenerate, temperature, max_tokens, model, preferences, idempotency_key: key } = step
    const known = Object.entries({ temperature, max_tokens, model }).filter(([, value]) => value !== undefined)
    const body = {
      messages: messages ?? (message === undefined ? [] : [{ role: 'user', content: message }]),
      preferences: { ...preferences, ...Object.fromEntries(known) },
      session_id: session, parent_id: parent, edit, regenerate, stream,
    }
    return this.#fetch(step.owner, '/api/chat', { method: 'POST', body, headers: key === undefined ? {} : { 'idempotency-key': key } })
  }

  async #messages(owner, session, options = '') {
    const { messages, next_cursor } = await this.#json(owner, `/api/sessions/${session}/messages?${options}`)
    return withTexts({ items: messages, next_cursor })
  }

  async play(step) {
    const { owner, session, message, turn, after } = step
    const at = `/api/sessions/${session}`
    switch (step.do) {
      case 'chat': {
        const { reply_message: reply, ...rest } = await (await this.#chat(step, false)).json()
        const { items } = await this.#messages(owner, rest.session_id, 'branch=all')
        return { ...rest, text: reply.content, message: items.find(({ id }) => id === reply.id) }
      }
      case 'stream': {
        const reading = { events: sse((await this.#chat(step, true)).body), read: [] }
        if (step.as !== undefined) this.#streams.set(step.as, reading)
        return follow(reading, step.until)
      }
      case 'read':
        return follow(this.#streams.get(step.stream))
      case 'close':
        await this.#streams.get(step.stream).events.return()
        return null
      case 'events': {
        const response = await this.#fetch(owner, `/api/turns/${turn}/events?after=${after}`)
        if (response.status !== 204) return follow({ events: sse(response.body), read: [] })
        // It has ended, and its last event is known.
        const all = await this.play({ ...step, after: 0 })
        return told(all.events.slice(-1), all.turn_id, all.session_id)
      }
      case 'cancel':
        return this.#json(owner, `/api/turns/${turn}/cancel`, { method: 'POST' })
      case 'turn':
        return this.#json(owner, `/api/turns/${turn}`)
      case 'messages': {
        const { limit, before, leaf, all } = step
        const branch = all ? 'all' : leaf
        const options = Object.entries({ limit, before, after, branch }).filter(([, value]) => value !== undefined)
        return this.#messages(owner, session, new URLSearchParams(options))
      }
      case 'siblings':
        return withTexts((await this.#json(owner, `${at}/messages/${message}/siblings`)).messages)
      case 'set_head':
        return asSession(await this.#json(owner, at, { method: 'PATCH', body: { head_id: message } }))
      case 'delete_message': {
        const before = await this.#json(owner, at)
        await this.#fetch(owner, `${at}/messages/${message}?branch=${step.with_branch ? 'cut' : 'keep'}`, { method: 'DELETE' })
        return before.message_count - (await this.#json(owner, at)).message_count
      }
      case 'session':
        return asSession(await this.#json(owner, at))
      case 'delete_session':
        return this.#fetch(owner, at, { method: 'DELETE' }).then(() => true, (error) => {
          if (error.code === 'not_found') return false
          throw error
        })
      case 'sessions': {
        const { limit, cursor } = step
        const options = Object.entries({ limit, cursor }).filter(([, value]) => value !== undefined)
        const { sessions, next_cursor } = await this.#json(owner, `/api/sessions?${new URLSearchParams(options)}`)
        return { items: sessions, next_cursor }
      }
      case 'create_session':
        return this.#json(owner, '/api/sessions', { method: 'POST', body: { id: session, title: step.title, metadata: step.metadata } })
      case 'rename_session':
        return this.#json(owner, at, { method: 'PATCH', body: { title: step.title } })
      case 'reopen':
        await this.#stop()
        return this.#node.play(step)
      default:
        // What is on this side: gates, and what the provider was asked.
        return this.#node.play(step)
    }
  }
}

/** A session as the other faces have it. */
const asSession = ({ head_id: head, running_turn_id: running_turn, ...session }) => ({ ...session, head, running_turn })

/** The events of a body. */
async function* sse(body) {
  let text = ''
  for await (const piece of body.pipeThrough(new TextDecoderStream())) {
    const frames = (text += piece).split('\n\n')
    text = frames.pop()
    for (const frame of frames) {
      const data = /^data: (.*)$/m.exec(frame)
      if (data !== null) yield JSON.parse(data[1])
    }
  }
}

async function follow({ events, read }, until) {
  for (;;) {
    const { done, value } = await events.next()
    if (done) break
    read.push(value)
    if (value.type === until) break
  }
  const started = read.find(({ type }) => type === 'turn.started')
  return told(read, started?.turn_id, started?.session_id)
}

for (const scenario of scenarios.filter(overHttp)) {
  test(`HTTP: ${scenario.law}`, { timeout: 60_000 }, async (t) => play(scenario, await Http.open(t, scenario)))
}

test('most scenarios are played over HTTP too', () => assert.ok(scenarios.filter(overHttp).length >= scenarios.length - 5))
