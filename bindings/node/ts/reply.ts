import { type Causes, fromNative } from './errors.js'
import { camel } from './json.js'
import type { Outcome } from './native.js'
import type { Content, Reply } from './types.js'

/** The result of a call, or its error. */
export function unwrap<T>({ value, error }: Outcome, causes: Causes): T {
  if (error !== undefined && error !== null) throw fromNative(error, causes)
  return camel<T>(JSON.parse(value ?? 'null'))
}

/** The reply of a call, or its error. */
export function toReply(outcome: Outcome, causes: Causes): Reply {
  const reply = unwrap<Omit<Reply, 'text'>>(outcome, causes)
  return { text: textOf(reply.message.content), ...reply }
}

/** The text of a content, without images and files. */
function textOf(content: Content): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'text' ? part.text : '')).join('')
}
