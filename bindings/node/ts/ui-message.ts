import type { TurnStream } from './stream.js'
import type { FinishReason, TurnEvent, Usage } from './types.js'

/** A chunk of the AI SDK's UI message stream. */
export type UiMessageChunk = { type: string } & Record<string, unknown>

/**
 * The events of a turn as chunks of the AI SDK's UI message stream: what `useChat` reads, from release
 * 5.0.0 on. A turn that fails ends with an `error` chunk that has our sentence.
 */
export async function* toUIMessageChunks(stream: TurnStream): AsyncGenerator<UiMessageChunk, undefined> {
  const encoder = new Encoder()
  for await (const event of stream) yield* encoder.chunks(event)
}

/**
 * A response for `useChat` of the AI SDK: `return toUIMessageStreamResponse(tutor.stream(…))` in a
 * route. A client that goes away stops the turn.
 *
 * A stream that cannot begin rejects, so that the route can answer with a status of its own.
 */
export async function toUIMessageStreamResponse(stream: TurnStream, init: ResponseInit = {}): Promise<Response> {
  const chunks = toUIMessageChunks(stream)
  let first: IteratorResult<UiMessageChunk, undefined> | undefined = await chunks.next()
  const utf8 = new TextEncoder()
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = first ?? (await chunks.next())
        first = undefined
        controller.enqueue(utf8.encode(`data: ${done === true ? '[DONE]' : JSON.stringify(value)}\n\n`))
        if (done === true) controller.close()
      },
      async cancel() {
        // Not the generator's: that would wait for the event that a pending pull waits for.
        await stream.return()
      },
    },
    { highWaterMark: 0 },
  )
  const headers = new Headers(init.headers)
  for (const [name, value] of HEADERS) if (!headers.has(name)) headers.set(name, value)
  return new Response(body, { ...init, headers })
}

const HEADERS = [
  ['content-type', 'text/event-stream'],
  ['cache-control', 'no-cache'],
  ['x-accel-buffering', 'no'],
  ['x-vercel-ai-ui-message-stream', 'v1'],
] as const

type Kind = 'text' | 'reasoning'

/** The server's grammar of these chunks is the same: `tutor-http/src/encode/ui.rs`. */
class Encoder {
  /** The block that is open. */
  #open: Kind | undefined
  #blocks = 0
  #step: 'empty' | 'filled' | 'answered' = 'empty'
  #usage: Usage | undefined

  *chunks(event: TurnEvent): Generator<UiMessageChunk> {
    switch (event.type) {
      case 'turn.started': {
        const { sessionId, turnId, provider, model } = event
        const messageMetadata = { sessionId, turnId, provider, model }
        yield { type: 'start', messageId: event.replyMessageId, messageMetadata }
        yield { type: 'start-step' }
        break
      }
      case 'text.delta':
        yield* this.#delta('text', event.text)
        break
      case 'reasoning.delta':
        yield* this.#delta('reasoning', event.text)
        break
      case 'tool.call':
        yield* this.#fill()
        yield {
          type: 'tool-input-available',
          toolCallId: event.callId,
          toolName: event.name,
          input: event.arguments,
        }
        break
      case 'tool.result':
        yield* this.#close()
        this.#step = 'answered'
        yield { type: 'tool-output-available', toolCallId: event.callId, output: event.result }
        break
      case 'attempt.restarted':
        if (this.#step === 'empty') break
        yield* this.#close()
        yield* this.#nextStep()
        yield {
          type: 'data-notice',
          data: { code: 'attempt_restarted', message: 'the reply above broke off, and begins anew' },
        }
        break
      case 'notice':
        yield { type: 'data-notice', transient: true, data: { code: event.code, message: event.message } }
        break
      case 'data':
        yield { type: `data-${event.name}`, data: event.value }
        break
      case 'usage': {
        const { inputTokens, outputTokens, reasoningTokens, cachedInputTokens } = event
        this.#usage = { inputTokens, outputTokens, reasoningTokens, cachedInputTokens } as Usage
        break
      }
      case 'turn.finished':
        yield* this.#close()
        yield { type: 'finish-step' }
        if (event.status === 'cancelled') yield { type: 'abort' }
        else yield { type: 'finish', messageMetadata: this.#metadata(event.finishReason) }
        break
      case 'turn.failed':
        yield { type: 'error', errorText: event.error.message }
        break
    }
  }

  *#delta(kind: Kind, delta: string): Generator<UiMessageChunk> {
    if (this.#open !== kind) {
      yield* this.#fill()
      this.#blocks++
      this.#open = kind
      yield { type: `${kind}-start`, id: this.#id() }
    }
    yield { type: `${kind}-delta`, id: this.#id(), delta }
  }

  *#close(): Generator<UiMessageChunk> {
    if (this.#open === undefined) return
    yield { type: `${this.#open}-end`, id: this.#id() }
    this.#open = undefined
  }

  /** Makes room for a new part. */
  *#fill(): Generator<UiMessageChunk> {
    yield* this.#close()
    if (this.#step === 'answered') yield* this.#nextStep()
    this.#step = 'filled'
  }

  *#nextStep(): Generator<UiMessageChunk> {
    yield { type: 'finish-step' }
    yield { type: 'start-step' }
    this.#step = 'empty'
  }

  #id(): string {
    return `b${this.#blocks}`
  }

  #metadata(reason: FinishReason): object {
    const finishReason = REASONS[reason] ?? 'other'
    return this.#usage === undefined ? { finishReason } : { finishReason, usage: this.#usage }
  }
}

const REASONS: Partial<Record<FinishReason, string>> = {
  stop: 'stop',
  length: 'length',
  tool_calls: 'tool-calls',
  content_filter: 'content-filter',
  refusal: 'content-filter',
}
