import { TutorError } from './errors.js'
import { camelName, snakeName } from './spelling.js'

// The engine spells names in snake case and durations in seconds; this package spells them in camel
// case, and durations in milliseconds under a name that ends in `Ms`.

/** Members of which the content is the caller's, or a model's: its names are not ours to change. */
const OPAQUE = new Set([
  'aliases',
  'arguments',
  'context',
  'env',
  'metadata',
  'output',
  'parameters',
  'preferences',
  'result',
  'schema',
  'store',
  'ui',
  'value',
])

/** Durations, of which the unit belongs into the name. */
const DURATIONS = new Set([
  'checkpointInterval',
  'closeGrace',
  'connectTimeout',
  'cooldown',
  'delay',
  'firstTimeout',
  'idleTimeout',
  'lease',
  'maxWait',
  'progressTimeout',
  'replayRetention',
  'timeout',
  'toolTimeout',
  'totalTimeout',
  'turnTimeout',
])

/** What the engine wrote, in this package's spelling. */
export function camel<T>(value: unknown): T {
  if (Array.isArray(value)) return value.map((item) => camel(item)) as T
  if (typeof value !== 'object' || value === null) return value as T
  const result: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value)) {
    result[camelName(name)] = OPAQUE.has(name) ? member : camel(member)
  }
  return result as T
}

/** What a caller wrote, in the engine's spelling. */
export function snake(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snake)
  if (typeof value !== 'object' || value === null) return value
  const result: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value)) {
    if (DURATIONS.has(name)) throw wrong(name, `write ${name}Ms, in milliseconds, instead of ${name}`)
    if (OPAQUE.has(name)) result[name] = member
    else if (name === 'catalog') result[name] = named(member)
    else if (name.endsWith('Ms')) result[snakeName(name.slice(0, -2))] = seconds(name, member)
    else result[snakeName(name)] = snake(member)
  }
  return result
}

/** An object whose names are the caller's, and whose values are not. */
function named(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, snake(member)]))
}

function seconds(name: string, millis: unknown): number | undefined {
  if (millis === undefined || millis === null) return undefined
  if (typeof millis === 'number' && millis >= 0 && millis < Infinity) return millis / 1000
  throw wrong(name, `${name} is a number of milliseconds, at least 0`)
}

function wrong(field: string, message: string): TutorError {
  return new TutorError('invalid_input', message, { context: { field } })
}

/** A caller's options as the engine reads them. */
export function toJson(options: object): string {
  try {
    return JSON.stringify(snake(options), plain)
  } catch (cause) {
    if (cause instanceof TutorError) throw cause
    throw new TutorError('invalid_input', 'options hold plain values only: no bigint, no circle', { cause })
  }
}

/** Only what JSON can say. */
function plain(name: string, value: unknown): unknown {
  // Half a character cannot be stored; the other half is not coming.
  if (typeof value === 'string') return value.toWellFormed()
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw wrong(name, 'a number is finite')
  }
  return value
}
