import { type Causes, fromNative } from './errors.js'
import { camel } from './json.js'
import type { Outcome } from './native.js'
import type { Content, Reply, ToolCall } from './types.js'

/** The result of a call, or its error. */
export function unwrap<T>({ value, error }: Outcome, causes: Causes): T {
  if (error !== undefined && error !== null) throw fromNative(error, causes)
  return camel<T>(JSON.parse(value ?? 'null'))
}

/** The reply of a call, or its error. */
export function toReply(outcome: Outcome, causes: Causes): Reply {
  const reply = unwrap<Omit<Reply, 'text' | 'toolCalls'>>(outcome, causes)
  const { content } = reply.message
  return { text: textOf(content), toolCalls: callsOf(content), ...reply }
}

/** The calls of a content that have no result. */
function callsOf(content: Content): ToolCall[] {
  if (typeof content === 'string') return []
  const answered = new Set(content.map((part) => (part.type === 'tool_result' ? part.callId : undefined)))
  return content.flatMap((part) => {
    if (part.type !== 'tool_call' || answered.has(part.callId)) return []
    const { callId, name, arguments: args } = part
    return [{ callId, name, arguments: args }]
  })
}

/** The text of a content, without images and files. */
function textOf(content: Content): string {
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'text' ? part.text : '')).join('')
}
