import { TutorError } from './errors.js'
import type { OptionCode } from './json.js'

/** A JSON Schema. */
export type JsonSchema = { readonly [member: string]: unknown }

/**
 * A schema that validates by itself: that of zod (4.2 and later), valibot, arktype … by the specifications
 * Standard Schema and Standard JSON Schema.
 */
export interface StandardSchema<T = unknown> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => Validated<T> | Promise<Validated<T>>
    readonly jsonSchema?: { readonly input: (options: { target: 'draft-2020-12' }) => Record<string, unknown> }
    readonly types?: { readonly input: unknown; readonly output: T } | undefined
  }
}

type Validated<T> = { readonly value: T; readonly issues?: undefined } | { readonly issues: readonly Issue[] }

interface Issue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** A form of values: a JSON Schema, or a schema that knows its type. */
export type Schema<T = unknown> = StandardSchema<T> | JsonSchema

function isStandard<T>(schema: Schema<T>): schema is StandardSchema<T> {
  return '~standard' in schema
}

/** The schema as models and the engine read it. What is wrong is an error of this code. */
export function toJsonSchema(schema: unknown, field: string, code: OptionCode): JsonSchema {
  const wrong = (message: string) => new TutorError(code, message, { context: { field } })
  const isObject = (typeof schema === 'object' || typeof schema === 'function') && schema !== null
  if (!isObject || Array.isArray(schema)) throw wrong(`${field} is a JSON Schema, or a schema of zod or the like`)
  if (!isStandard(schema as Schema)) return schema as JsonSchema
  const { jsonSchema, vendor } = (schema as StandardSchema)['~standard']
  if (typeof jsonSchema?.input !== 'function') {
    throw wrong(`${field} is a schema of ${vendor} that cannot be told as JSON Schema: convert it, or take a newer release`)
  }
  return jsonSchema.input({ target: 'draft-2020-12' })
}

/** A value as the schema gives it; throws where it does not fit, without quoting it. */
export async function validated<T>(schema: Schema<T> | undefined, value: unknown, refuse: (where: string) => TutorError): Promise<T> {
  if (schema === undefined || !isStandard(schema)) return value as T
  const result = await schema['~standard'].validate(value)
  if (result.issues === undefined) return result.value
  const keys = result.issues[0]?.path ?? []
  const where = keys.map((key) => String(typeof key === 'object' ? key.key : key)).join('.')
  throw refuse(where === '' ? 'the whole' : where)
}
