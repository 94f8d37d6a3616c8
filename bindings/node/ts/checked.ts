// Options that only TypeScript would have refused, refused by name.
import { Causes, fromNative, TutorError } from './errors.js'
import { type OptionCode, withoutUnit } from './json.js'
import { native } from './native.js'

/** Nothing of a user's own runs where options are checked. */
const NONE = new Causes()

/** The names of all options of a kind. */
export type Names<T> = { readonly [name in keyof T]-?: true }

/** Refuses what only TypeScript would have refused. */
export function text(field: string, value: string, code: OptionCode = 'invalid_input'): string {
  if (typeof value === 'string') return value
  throw new TutorError(code, `${field} is a string`, { context: { field } })
}

/** Options are an object, or absent. */
export function checkedOptions<T extends object>(options: T, code: OptionCode = 'invalid_input'): T {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options
  throw new TutorError(code, 'options are an object, or absent', { context: { field: 'options' } })
}

/** Options of a `what`, which has those of `names` and no others: a wrong name is not passed over. */
export function knownOptions<T extends object>(what: string, options: T, names: Names<T>, code: OptionCode = 'invalid_input'): T {
  for (const name of Object.keys(checkedOptions(options, code))) {
    if (Object.hasOwn(names, name) || options[name as keyof T] === undefined) continue
    if (Object.hasOwn(names, `${name}Ms`)) throw withoutUnit(name, code)
    throw fromNative(native.NativeTutor.unknownOption(code, what, name, Object.keys(names)), NONE)
  }
  return options
}
