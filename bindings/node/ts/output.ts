import { TutorError } from './errors.js'
import { type Schema, toJsonSchema, validated } from './schema.js'
import type { Reply } from './types.js'

/** What a form is called when nobody says. */
const NAME = 'output'

/**
 * The form that a reply must have, as JSON: a schema, or a schema and what it is called, which models are
 * told.
 */
export type Output<T = unknown> = Schema<T> | { name: string; schema: Schema<T> }

function parts<T>(output: Output<T>): { name: string; schema: Schema<T> } {
  const named = typeof output === 'object' && 'schema' in output && typeof (output as { name?: unknown }).name === 'string'
  return named ? (output as { name: string; schema: Schema<T> }) : { name: NAME, schema: output as Schema<T> }
}

/** The form as the engine is told of it. */
export function describeOutput(output: Output | undefined): object | undefined {
  if (output === undefined || output === null) return undefined
  const { name, schema } = parts(output)
  return { name, schema: toJsonSchema(schema, 'output', 'invalid_input') }
}

/** The reply, with its output as the schema gives it. */
export async function typed<T>(output: Output<T> | undefined, reply: Reply): Promise<Reply<T>> {
  // Without a form, and of a reply that was stopped, there is none.
  if (output === undefined || output === null || reply.output === null) return reply as Reply<T>
  const refuse = (where: string): TutorError =>
    new TutorError('provider_rejected', `the reply is not of the form that was asked for: ${where}`, {
      retryable: true,
      context: { turn: reply.turnId, session: reply.sessionId },
    })
  return { ...reply, output: await validated(parts(output).schema, reply.output, refuse) }
}
