// What plays a scenario of `examples/scenarios` and compares, for those faces that speak JavaScript.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { PACKAGE } from './support.mjs'

const FOLDER = join(PACKAGE, '..', '..', 'examples', 'scenarios')

/** What steers a runner, and is no part of a request. */
const STEERING = new Set(['do', 'as', 'expect', 'error', 'owner', 'until'])

export const scenarios = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({ name, ...JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) }))

/** Members of which the content is nobody's to rename. */
const OPAQUE = new Set(['metadata', 'preferences', 'arguments', 'result', 'output', 'parameters', 'value'])

const renamed = (rename) =>
  function again(value) {
    if (Array.isArray(value)) return value.map(again)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [rename(name), OPAQUE.has(name) ? member : again(member)]))
  }

/** A value in the spelling of JavaScript, and in that of the scenarios. */
export const camel = renamed((name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()))
export const snake = renamed((name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))

/** The members of a step that are a request. */
export const request = (step) => Object.fromEntries(Object.entries(step).filter(([name]) => !STEERING.has(name)))

/** The text of a message. */
export const textOf = (content) =>
  typeof content === 'string' ? content : content.map((part) => (part.type === 'text' ? part.text : '')).join('')

/** Messages, or a page of them, with their texts. */
export function withTexts(value) {
  const add = (message) => ('content' in message ? { ...message, text: textOf(message.content) } : message)
  return Array.isArray(value) ? value.map(add) : { ...value, items: value.items.map(add) }
}

/** What was read of a stream. */
export function told(events, turnId, sessionId) {
  const texts = events.filter(({ type }) => type === 'text.delta').map(({ text }) => text)
  return {
    turn_id: turnId,
    session_id: sessionId,
    events,
    types: events.map(({ type }) => type),
    seqs: events.map(({ seq }) => seq),
    text: texts.join(''),
  }
}

/** Puts what was seen in the place of `$name.member.0`. */
function resolved(value, named) {
  if (typeof value === 'string' && value.startsWith('$')) {
    const [first, ...path] = value.slice(1).split('.')
    const found = path.reduce((at, part) => at?.[part], named.get(first))
    assert.notEqual(found, undefined, `nothing is called ${value}`)
    return found
  }
  if (Array.isArray(value)) return value.map((item) => resolved(item, named))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, resolved(member, named)]))
}

/** Compares as far as is said: of objects the members that are named, of lists every item. */
function compare(expected, found, place) {
  if (Array.isArray(expected)) {
    assert.equal(found?.length, expected.length, `${place} has another length: ${JSON.stringify(found)}`)
    expected.forEach((item, index) => compare(item, found[index], `${place}.${index}`))
  } else if (typeof expected === 'object' && expected !== null) {
    assert.ok(typeof found === 'object' && found !== null, `${place} is ${JSON.stringify(found)}`)
    for (const [name, member] of Object.entries(expected)) compare(member, found[name] ?? null, `${place}.${name}`)
  } else {
    assert.deepEqual(found, expected, place)
  }
}

/** Plays a scenario: `face.play(step)` gives what it saw, or throws an error with `code` and the like. */
export async function play({ steps }, face) {
  const named = new Map()
  for (const [index, written] of steps.entries()) {
    const step = resolved(written, named)
    const place = `step ${index}, ${step.do}`
    let seen
    try {
      seen = await face.play(step)
    } catch (error) {
      if (step.error === undefined) throw new Error(`${place}: ${error.message}`, { cause: error })
      compare(step.error, face.error(error), place)
      continue
    }
    assert.equal(step.error, undefined, `${place} gave ${JSON.stringify(seen)}`)
    if (step.expect !== undefined) compare(step.expect, seen, place)
    if (step.as !== undefined) named.set(step.as, seen)
  }
}

/** The scripts as a scripted provider of this package plays them; `gates` are what they wait for. */
export function scripts({ scripts }, TutorError) {
  const gates = new Map()
  const gate = (name) => {
    if (!gates.has(name)) {
      let open
      const opened = new Promise((resolve) => (open = resolve))
      gates.set(name, { opened, open })
    }
    return gates.get(name)
  }
  const step = (written) => {
    if (typeof written === 'string') return written
    if ('wait' in written) return gate(written.wait).opened
    if ('raise' in written) {
      const { code, message, ...rest } = camel(written.raise)
      return new TutorError(code, message, rest)
    }
    return camel(written)
  }
  return { scripts: scripts.map((script) => script.map(step)), open: (name) => gate(name).open() }
}

/** The tools as this package takes them. */
export const tools = ({ tools = [] }, TutorError) =>
  Object.fromEntries(
    tools.map(({ name, description, parameters, answer, raise }) => {
      const execute = () => {
        if (raise !== undefined) throw new TutorError('internal', raise)
        return answer
      }
      return [name, { ...(description && { description }), inputSchema: parameters, execute }]
    }),
  )
