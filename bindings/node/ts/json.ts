import { type ErrorCode, TutorError } from './errors.js'
import { camelName, DURATIONS, OPAQUE, snakeName } from './spelling.js'

/** The codes that a wrong option has: where a tutor is opened, and elsewhere. */
export type OptionCode = Extract<ErrorCode, 'config' | 'invalid_input'>

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

/** What a caller wrote, in the engine's spelling. What is wrong is an error of this code. */
export function snake(value: unknown, code: OptionCode = 'invalid_input'): unknown {
  if (Array.isArray(value)) return value.map((item) => snake(item, code))
  if (typeof value !== 'object' || value === null) return value
  const result: Record<string, unknown> = {}
  for (const [name, member] of Object.entries(value)) {
    if (DURATIONS.has(name)) throw withoutUnit(name, code)
    if (OPAQUE.has(name)) result[name] = member
    else if (name === 'catalog') result[name] = named(member, code)
    else if (name.endsWith('Ms')) result[snakeName(name.slice(0, -2))] = seconds(name, member, code)
    else result[snakeName(name)] = snake(member, code)
  }
  return result
}

/** An object whose names are the caller's, and whose values are not. */
function named(value: unknown, code: OptionCode): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, snake(member, code)]))
}

function seconds(name: string, millis: unknown, code: OptionCode): number | undefined {
  if (millis === undefined || millis === null) return undefined
  if (typeof millis === 'number' && millis >= 0 && millis <= Number.MAX_SAFE_INTEGER) return millis / 1000
  throw wrong(code, name, `${name} is a number of milliseconds, at least 0`)
}

/** The error for a duration whose name does not say what its unit is. */
export function withoutUnit(name: string, code: OptionCode): TutorError {
  return wrong(code, name, `write ${name}Ms, in milliseconds, instead of ${name}`)
}

function wrong(code: OptionCode, field: string, message: string): TutorError {
  return new TutorError(code, message, { context: { field } })
}

/** A caller's options as the engine reads them. What is wrong is an error of this code. */
export function toJson(options: object, code: OptionCode = 'invalid_input'): string {
  const finite = (name: string, value: unknown): unknown => {
    if (typeof value === 'number' && !Number.isFinite(value)) throw wrong(code, name, 'a number is finite')
    return value
  }
  try {
    return wellFormed(JSON.stringify(snake(options, code), finite))
  } catch (cause) {
    if (cause instanceof TutorError) throw cause
    throw new TutorError(code, 'options hold plain values only: no bigint, no circle', { cause })
  }
}

/** A value as JSON in which half characters are U+FFFD; undefined for what JSON cannot say. */
export function stringify(value: unknown): string | undefined {
  const json = JSON.stringify(value) as string | undefined
  return json === undefined ? undefined : wellFormed(json)
}

/** Half a character cannot be stored or sent; the other half is not coming. JSON has it as an escape. */
function wellFormed(json: string): string {
  return json.replace(/\\\\|\\ud[89a-f]../g, (escape) => (escape === '\\\\' ? escape : '\\ufffd'))
}
