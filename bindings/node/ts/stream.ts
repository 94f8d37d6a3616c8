import { Causes, fromNative, TutorError } from './errors.js'
import { camel } from './json.js'
import type { Batch, NativeStream } from './native.js'
import { toReply } from './reply.js'
import { abortError, checkSignal, onAbort } from './signal.js'
import type { Reply, TurnEvent, UiMessageChunk } from './types.js'

/** Batches that are taken without waiting before the event loop gets a turn. */
const FAIR = 16

const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol.for('nodejs.asyncDispose') as typeof Symbol.asyncDispose)

/**
 * The events of one turn: `for await (const event of stream)`. Asked for when the first one is.
 *
 * A turn that fails ends with the event `turn.failed`; {@link error} then has the whole error. Only
 * what could not begin throws.
 *
 * Leaving the loop early (`break`, `return`, an exception) stops a turn that {@link Tutor.stream}
 * began, and keeps what had arrived; the session is free then. A stream of {@link Tutor.events} only
 * watches: the turn goes on.
 */
export class TurnStream<T = unknown> implements AsyncIterableIterator<TurnEvent> {
  readonly #open: () => Promise<NativeStream>
  readonly #causes: Causes
  readonly #signal: AbortSignal | undefined
  #events: AsyncGenerator<TurnEvent, undefined, undefined> | undefined
  #native: Promise<NativeStream> | undefined
  #begun: NativeStream | undefined
  readonly #finish: ((reply: Reply) => Promise<Reply<T>>) | undefined
  #over = false
  readonly #turnId: string | undefined
  #error: TutorError | undefined

  /** @internal */
  constructor(open: () => Promise<NativeStream>, causes: Causes, signal: AbortSignal | undefined, turnId?: string, finish?: (reply: Reply) => Promise<Reply<T>>) {
    this.#open = open
    this.#causes = causes
    this.#signal = signal
    this.#turnId = turnId
    this.#finish = finish
  }

  /** The turn; undefined until the first event, or the reply, has come. */
  get turnId(): string | undefined {
    return this.#turnId ?? this.#begun?.turnId ?? undefined
  }

  /** The conversation, also if it was just created; undefined until the first event, or the reply, has come. */
  get sessionId(): string | undefined {
    return this.#begun?.sessionId ?? undefined
  }

  /** True if the turn has ended, whether its events were read or not. */
  get hasEnded(): boolean {
    return this.#begun?.hasEnded ?? false
  }

  /**
   * True if the request had been sent before, under the same idempotency key: its turn was found, and nothing
   * was begun. Known once the first event has come.
   */
  get isReplay(): boolean {
    return this.#begun?.isReplay ?? false
  }

  /** Why the turn failed; undefined while it has not. Its `cause` is what a provider threw. */
  get error(): TutorError | undefined {
    return this.#error
  }

  /**
   * Stops the turn, and waits until it has ended. What had arrived is kept. The stream goes on to its
   * last event. Idempotent.
   */
  async cancel(): Promise<void> {
    if (this.#over) return
    if (this.#native === undefined && this.#turnId === undefined) {
      this.#over = true
      return
    }
    const native = await this.#begin()
    const { error } = await native.cancel()
    if (error !== undefined && error !== null) throw fromNative(error, this.#causes)
  }

  /**
   * Reads to the end, and puts the reply together. Rejects with what ended the turn, and with an
   * `AbortError` like {@link next}.
   */
  async reply(): Promise<Reply<T>> {
    const signal = this.#signal
    checkSignal(signal)
    const native = await this.#begin()
    if (signal?.aborted) {
      this.#over = true
      await native.close()
      throw abortError(signal)
    }
    const end = onAbort(signal, () => void native.close())
    try {
      const outcome = await native.reply()
      if (signal?.aborted && outcome.error) {
        await native.close()
        throw abortError(signal)
      }
      if (outcome.error) {
        const error = fromNative(outcome.error, this.#causes)
        // Whoever asks twice, or was not let in, is told what was wrong with that.
        if (native.turnId !== null && error.context['turn'] === native.turnId) this.#error = error
        throw error
      }
      const reply = toReply(outcome, this.#causes)
      return this.#finish === undefined ? (reply as Reply<T>) : await this.#finish(reply)
    } finally {
      end()
      this.#over = true
    }
  }

  /** The same events as a web stream of objects. Cancelling it leaves this stream. */
  toReadableStream(): ReadableStream<TurnEvent> {
    return new ReadableStream<TurnEvent>(
      {
        pull: async (controller) => {
          const next = await this.next()
          if (next.done === true) controller.close()
          else controller.enqueue(next.value)
        },
        cancel: async () => {
          await this.return()
        },
      },
      { highWaterMark: 0 },
    )
  }

  /** The next event. Calls may overlap: they are answered in their order. */
  next(): Promise<IteratorResult<TurnEvent, undefined>> {
    return this.#read().next()
  }

  /** Leaves the stream; a pending `next()` is done. */
  async return(): Promise<IteratorResult<TurnEvent, undefined>> {
    // The generator would wait for the event that a pending `next()` waits for.
    await this.#leave()
    return this.#read().return(undefined)
  }

  /** Leaves the stream, and rejects with `error`. */
  async throw(error?: unknown): Promise<IteratorResult<TurnEvent, undefined>> {
    await this.#leave()
    return this.#read().throw(error)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [asyncDispose](): Promise<void> {
    await this.return()
  }

  /**
   * The same turn as chunks of the AI SDK's UI message stream, which the engine encodes. Only before the
   * first event was read.
   *
   * @internal
   */
  async *chunks(): AsyncGenerator<UiMessageChunk, undefined, undefined> {
    if (this.#events !== undefined) {
      throw new TutorError('invalid_input', 'events of this stream were read already: make the response of a new one')
    }
    const chunks = this.#generate<UiMessageChunk>(async () => {
      const native = await this.#begin()
      native.encodeChunks()
      return native
    }, (chunk) => chunk as UiMessageChunk)
    // Whoever reads on reads nothing.
    this.#events = nothing()
    yield* chunks
  }

  #read(): AsyncGenerator<TurnEvent, undefined, undefined> {
    return (this.#events ??= this.#generate(() => this.#begin(), camel<TurnEvent>))
  }

  #begin(): Promise<NativeStream> {
    return (this.#native ??= this.#open().then(
      (native) => (this.#begun = native),
      (error: unknown) => {
        this.#over = true
        throw error
      },
    ))
  }

  async #leave(): Promise<void> {
    if (this.#over) return
    this.#over = true
    if (this.#native === undefined) return
    // What could not be opened need not be closed; whoever reads is told.
    const native = await this.#native.catch(() => undefined)
    await native?.close()
  }

  async *#generate<T>(
    begin: () => Promise<NativeStream>,
    seen: (event: { type: string }) => T,
  ): AsyncGenerator<T, undefined, undefined> {
    const signal = this.#signal
    if (this.#over) return undefined
    checkSignal(signal)
    const native = await begin()
    const end = onAbort(signal, () => void native.close())
    try {
      for (let count = 1; ; count++) {
        if (signal?.aborted) throw abortError(signal)
        const ready = count % FAIR === 0 ? undefined : native.poll()
        const batch: Batch = ready ?? (await native.next())
        if (signal?.aborted) throw abortError(signal)
        if (batch.error) throw fromNative(batch.error, this.#causes)
        if (batch.failure) this.#error = fromNative(batch.failure, this.#causes)
        for (const event of JSON.parse(batch.events) as { type: string }[]) {
          if (signal?.aborted) throw abortError(signal)
          // The stream was left, or its reply was read, since these had come.
          if (this.#over) return undefined
          // Most events by far, and nothing in them to spell differently.
          yield event.type === 'text.delta' ? (event as T) : seen(event)
        }
        if (batch.done) {
          this.#over = true
          return undefined
        }
      }
    } finally {
      end()
      if (!this.#over) {
        this.#over = true
        await native.close()
      } else if (signal?.aborted) {
        await native.close()
      }
    }
  }
}

async function* nothing(): AsyncGenerator<never, undefined, undefined> {}
