// The engine spells names in snake case and durations in seconds; this package spells them in camel
// case, and durations in milliseconds under a name that ends in `Ms`.

/** Members of which the content is the caller's, or a model's: its names are not ours to change. */
export const OPAQUE: ReadonlySet<string> = new Set([
  'aliases',
  'arguments',
  'context',
  'data',
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
export const DURATIONS: ReadonlySet<string> = new Set([
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

const camels = new Map<string, string>()

/** `session_id` → `sessionId` */
export function camelName(name: string): string {
  let camel = camels.get(name)
  if (camel === undefined) {
    camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    // The engine has some hundred names; anything else is not worth keeping.
    if (camels.size < 1000) camels.set(name, camel)
  }
  return camel
}

/** `sessionId` → `session_id` */
export function snakeName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** `turn_timeout` → `turnTimeoutMs`: an option as a caller writes it. */
export function optionName(name: string): string {
  const camel = camelName(name)
  return DURATIONS.has(camel) ? `${camel}Ms` : camel
}

/** Fields whose errors quote names of a caller's own: models, providers, variables, files, preferences. */
const QUOTING: ReadonlySet<string> = new Set(['key_env', 'key_file', 'preferences', 'preferences.model', 'preferences.provider'])

/** A message about the option `field`, with options as a caller writes them. */
export function optionMessage(message: string, field: string): string {
  const isOption = (word: string): boolean => word === field || (word.includes('_') && !QUOTING.has(field))
  const named = message.replace(/\b[a-z]+(?:_[a-z]+)*\b/g, (word) => (isOption(word) ? optionName(word) : word))
  if (!message.includes('no such member')) return named
  const all = (names: string): string => names.replace(/\w+/g, (name) => optionName(name))
  return named.replace(/(?<=did you mean )\w+/, all).replace(/(?<=known: ).*/, all)
}
