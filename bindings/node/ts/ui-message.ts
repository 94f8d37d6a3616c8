import type { TurnStream } from './stream.js'
import type { UiMessageChunk } from './types.js'

/**
 * The events of a turn as chunks of the AI SDK's UI message stream: what `useChat` reads, from release
 * 5.0.0 on. A turn that fails ends with an `error` chunk that has our sentence.
 *
 * The stream is one of which nothing was read yet.
 */
export function toUIMessageChunks(stream: TurnStream): AsyncGenerator<UiMessageChunk, undefined> {
  return stream.chunks()
}

/**
 * A response for `useChat` of the AI SDK: `return toUIMessageStreamResponse(tutor.streamUI(body))`
 * in a route. A client that goes away stops the turn.
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
