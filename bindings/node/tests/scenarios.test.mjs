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
