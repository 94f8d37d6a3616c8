import { Causes, TutorError, toNative } from './errors.js'
import { camel, snake, stringify } from './json.js'
import type { Sink } from './native.js'
import type { Content, FinishReason, Notice, Usage } from './types.js'

/** What a provider is asked for. */
export interface CompletionRequest {
  /** The model, as the provider calls it. */
  model: string
  /** Instructions that precede the conversation. */
  system: string | null
  /** The conversation, oldest first; the last one is the learner's. Never empty. */
  messages: { role: 'user' | 'assistant'; content: Content }[]
  /** The sampling temperature, 0 to 2; null for the model's own. */
  temperature: number | null
  /** The most tokens the reply may have; null for the model's own limit. */
  maxTokens: number | null
  /** Tools that the model may ask for; `parameters` is a JSON Schema. */
  tools: { name: string; description: string; parameters: Record<string, unknown> }[]
  /** A form that the reply must have, as a JSON Schema; null for any. */
  output: { name: string; schema: unknown } | null
  /** True if somebody watches the reply grow. */
  streamed: boolean
  /** Whose request it is. */
  owner: string
  /** Milliseconds that are left; null for no limit. */
  timeoutMs: number | null
}

/** What a provider yields: a text, or one of these. */
export type Delta =
  | string
  /** More of the reply. */
  | { type: 'text.delta'; text: string }
  /** More of the model's visible thinking. */
  | { type: 'reasoning.delta'; text: string }
  /** More of an explanation why the model declines; part of the reply's text. */
  | { type: 'refusal.delta'; text: string }
  /** A whole tool call. `arguments` is an object, or the text that the model wrote. */
  | { type: 'tool.call'; callId: string; name: string; arguments: unknown }
  /** What was consumed so far. The last one counts; they are not added up. */
  | ({ type: 'usage' } & Usage)
  | ({ type: 'notice' } & Notice)
  /** The other side's name for the request, by which its support finds it. */
  | { type: 'accepted'; requestId: string }
  /** Somebody else than was asked writes what follows. */
  | { type: 'answered_by'; provider: string; model: string }
  /** Comes back as a part of the message that has the calls, together with their results. */
  | { type: 'replay'; protocol: string; data: unknown }
  /** What came before is void: a new attempt begins. */
  | { type: 'attempt.restarted'; reason: string }
  /** A sign of life. */
  | { type: 'heartbeat' }
  /** The reply is complete. When the iteration just ends after some text, that says the same. */
  | { type: 'finished'; reason?: Exclude<FinishReason, 'cancelled'> }

/** The deltas of one reply. */
export type Deltas = AsyncIterable<Delta> | Iterable<Delta>

/**
 * A source of replies of your own.
 *
 * @example
 * ```ts
 * const echo: Provider = {
 *   name: 'echo',
 *   async *stream({ messages }) {
 *     yield `You said: ${messages.at(-1)?.content}`
 *   },
 * }
 * const tutor = await Tutor.open('data', { providers: [echo] })
 * ```
 */
export interface Provider {
  /** How requests name it. */
  readonly name: string
  /** The model when a request names none: the first of `models`, or the provider's name, if absent. */
  readonly model?: string | undefined
  /** The models that may be asked for; any if absent. */
  readonly models?: readonly string[] | undefined
  /**
   * Writes one reply. `signal` is aborted when nobody wants it any more: give it to `fetch`. The
   * iteration is then ended too, so that a generator's `finally` runs.
   *
   * What it throws is the `cause` of the error that the caller sees. Throw a {@link TutorError} to
   * choose the code, and whether trying again can help.
   */
  stream(request: CompletionRequest, options: { signal: AbortSignal }): Deltas | Promise<Deltas>
}

/** A kind of built-in provider. `openai` speaks to every server with its Chat Completions API. */
export type ProviderKind = 'openai' | 'openai-responses' | 'anthropic' | 'gemini' | 'ollama' | 'demo'

/** A built-in provider. */
export interface ProviderOptions {
  kind: ProviderKind
  /** How requests name it; the kind if absent. */
  name?: string | undefined
  /** The key, or several, which are used in turn. */
  apiKey?: string | readonly string[] | undefined
  /** The environment variables that have the keys. No other variable is read. */
  keyEnv?: string | readonly string[] | undefined
  /** The files that have the keys, one a line. */
  keyFile?: string | readonly string[] | undefined
  /** Where its API begins; the maker's own if absent. */
  baseUrl?: string | undefined
  /** How the server speaks Chat Completions, such as `vllm`; what its host tells if absent. */
  dialect?: string | undefined
  /** True if it writes its reasoning between `<think>` and `</think>`. */
  thinkTags?: boolean | undefined
  /** The model when a request names none. */
  model?: string | undefined
  /** The only models that may be asked for. */
  models?: readonly string[] | undefined
  /** Other names of models. */
  aliases?: Readonly<Record<string, string>> | undefined
  /** A proxy to go through, or `system` for that of the environment. */
  proxy?: string | undefined
  /** Until a connection is there. */
  connectTimeoutMs?: number | undefined
  /** Until the first sign of life. */
  firstTimeoutMs?: number | undefined
  /** Between two signs of life. */
  idleTimeoutMs?: number | undefined
  /** Between two pieces of the reply. */
  progressTimeoutMs?: number | undefined
  /** For the whole reply. */
  totalTimeoutMs?: number | undefined
  /** Retries of a request that nothing came of, at most 10. */
  maxRetries?: number | undefined
  /** Requests at a time; more wait. */
  maxConcurrent?: number | undefined
  /** Requests that wait; more are `overloaded`. */
  maxWaiting?: number | undefined
  /** How long a request waits. */
  maxWaitMs?: number | undefined
  /** When to stop asking a provider that keeps failing; false for never. */
  breaker?: boolean | { failures?: number | undefined; window?: number | undefined; cooldownMs?: number | undefined } | undefined
  /** Who is asked, in this order, when it cannot answer: `provider` or `provider/model`. */
  fallback?: readonly string[] | undefined
  /** True to fall back also when a part of a reply was delivered. */
  restart?: boolean | undefined
  /** A directory: every completion is recorded into a file, the model's words included. */
  record?: string | undefined
  /** The demo provider's pause between two words. */
  delayMs?: number | undefined
}

/**
 * Deltas that are passed on together. After so many the event loop gets a turn, lest a provider that is always
 * ready keep it.
 */
const BATCH = 64

type AnyIterator = AsyncIterator<Delta> | Iterator<Delta>

interface Running {
  readonly controller: AbortController
  iterator?: AnyIterator
}

/** Runs the providers that are written in JavaScript, when the engine asks. */
export class Providers {
  readonly #providers: Provider[] = []
  readonly #causes: Causes
  readonly #running = new Map<number, Running>()

  constructor(causes: Causes) {
    this.#causes = causes
  }

  /** Keeps one, for as long as the tutor lives: a turn may still be asking it. Gives its number. */
  add(provider: Provider): number {
    return this.#providers.push(provider) - 1
  }

  /** Asks a provider. Never throws; the outcome goes into the sink. */
  readonly start = (provider: number, call: number, request: string, sink: Sink): void => {
    void this.#run(provider, call, request, sink)
  }

  /** Tells a provider that nobody wants its reply any more. */
  readonly cancel = (call: number): void => {
    const running = this.#running.get(call)
    if (running === undefined) return
    running.controller.abort()
    void leave(running)
  }

  async #run(index: number, call: number, json: string, sink: Sink): Promise<void> {
    const running: Running = { controller: new AbortController() }
    const { signal } = running.controller
    this.#running.set(call, running)
    const writer = new Writer(sink)
    let ended = false
    try {
      const provider = this.#providers[index]
      if (provider === undefined) throw new TutorError('internal', 'no such provider')
      const iterator = iterate(await provider.stream(request(json), { signal }))
      running.iterator = iterator
      while (!signal.aborted) {
        const next = await iterator.next()
        if (next.done === true) {
          ended = true
          await writer.end()
          return
        }
        const more = writer.write(next.value)
        if (more !== true && !(await more)) break
      }
    } catch (error) {
      if (!signal.aborted) await writer.fail(toNative(error), this.#causes.keep(error))
    } finally {
      if (!ended) {
        running.controller.abort()
        await leave(running)
      }
      this.#running.delete(call)
    }
  }
}

function request(json: string): CompletionRequest {
  const { timeout, tools, output, ...rest } = camel<
    CompletionRequest & { timeout: number | null; tools?: CompletionRequest['tools'] }
  >(JSON.parse(json))
  return {
    ...rest,
    tools: tools ?? [],
    output: output ?? null,
    timeoutMs: timeout === null ? null : timeout * 1000,
  }
}

function iterate(source: Deltas): AnyIterator {
  if (typeof source === 'object' && source !== null) {
    if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]()
    if (Symbol.iterator in source) return source[Symbol.iterator]()
  }
  throw new TypeError("a provider's stream() returns something to iterate over: make it an async generator")
}

/** Ends an iteration early, once. */
async function leave(running: Running): Promise<void> {
  const { iterator } = running
  delete running.iterator
  try {
    await iterator?.return?.()
  } catch {
    // The reply is given up; what its cleaning up failed at interests nobody.
  }
}

/**
 * Writes deltas into a sink: those of one turn of the event loop together, since crossing costs more than most
 * of them are. It waits while the sink is full, and joins characters that were torn apart.
 */
class Writer {
  readonly #sink: Sink
  #half = ''
  /** As JSON. */
  #pending: string[] = []
  #isScheduled = false
  #flushing: Promise<boolean> | undefined
  #isGone = false

  constructor(sink: Sink) {
    this.#sink = sink
  }

  /** False, perhaps later, if nothing more is wanted. */
  write(delta: Delta): boolean | Promise<boolean> {
    if (this.#isGone) return false
    const text = typeof delta === 'string' ? delta : delta?.type === 'text.delta' ? delta.text : undefined
    if (typeof text !== 'string') this.#pending.push(stringify(snake(delta)) ?? 'null')
    else if (!this.#text(text)) return true
    if (typeof delta === 'object' && delta?.type === 'finished') return this.#flush()
    if (this.#pending.length >= BATCH) return this.#rest()
    if (!this.#isScheduled) {
      this.#isScheduled = true
      setImmediate(this.#soon)
    }
    return true
  }

  /** The iteration has ended. */
  async end(): Promise<void> {
    if (this.#half !== '') this.#pending.push('"\ufffd"')
    if (await this.#flush()) this.#sink.end()
  }

  /** The provider threw. What it had said before counts. */
  async fail(error: string | undefined, cause: number): Promise<void> {
    if (await this.#flush()) this.#sink.fail(error, cause)
  }

  /** False if it was no more than half a character. */
  #text(delta: string): boolean {
    let text = this.#half + delta
    this.#half = ''
    const last = text.charCodeAt(text.length - 1)
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#half = text.slice(-1)
      text = text.slice(0, -1)
    }
    if (text === '') return false
    this.#pending.push(JSON.stringify(text.toWellFormed()))
    return true
  }

  readonly #soon = (): void => {
    this.#isScheduled = false
    void this.#flush()
  }

  async #rest(): Promise<boolean> {
    const more = await this.#flush()
    await new Promise(setImmediate)
    return more
  }

  #flush(): boolean | Promise<boolean> {
    if (this.#flushing !== undefined) return this.#flushing
    this.#put()
    if (this.#isGone || this.#pending.length === 0) return !this.#isGone
    return (this.#flushing = this.#wait())
  }

  async #wait(): Promise<boolean> {
    while (!this.#isGone && this.#pending.length > 0) {
      await this.#sink.ready()
      this.#put()
    }
    this.#flushing = undefined
    return !this.#isGone
  }

  #put(): void {
    const pending = this.#pending
    if (pending.length === 0) return
    const taken = this.#sink.putAll(`[${pending.join()}]`)
    this.#isGone = taken < 0
    this.#pending = taken < 0 || taken === pending.length ? [] : pending.slice(taken)
  }
}

/** A provider of a user's own as the engine is told of it. */
export function describeProvider({ name, model, models }: Provider): object {
  return { name, model, models }
}

/** Providers as the engine is told of them: own ones are kept in `runner`. */
export function describeProviders(providers: readonly (Provider | ProviderOptions | string)[], runner: Providers): unknown[] {
  if (!Array.isArray(providers)) throw new TutorError('config', 'providers is an array', { context: { field: 'providers' } })
  return providers.map((provider) => {
    if (typeof provider === 'string') return { kind: provider }
    if (!isOwn(provider)) return provider
    return { own: describeProvider(provider), index: runner.add(provider) }
  })
}

function isOwn(provider: Provider | ProviderOptions): provider is Provider {
  return typeof (provider as Partial<Provider> | null)?.stream === 'function'
}
