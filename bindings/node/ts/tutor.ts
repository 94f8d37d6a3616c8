import { fileURLToPath } from 'node:url'

import { asRequest } from './attachment.js'
import { checkedOptions, knownOptions, text } from './checked.js'
import { Causes, fromNative, TutorError } from './errors.js'
import { Files } from './files.js'
import { describeOutput, typed } from './output.js'
import { Items } from './items.js'
import { toJson } from './json.js'
import { native, type NativeTutor, type Outcome } from './native.js'
import { CHAT, type ChatOptions, OPENING, type Quota, STREAM, type StreamOptions, type TutorOptions, type UiOptions } from './options.js'
import { describeProviders, type Provider, type ProviderKind, type ProviderOptions, Providers } from './provider.js'
import { toReply, unwrap } from './reply.js'
import { Server, SERVING, type ServeOptions } from './server.js'
import { abortError, checkSignal, onAbort } from './signal.js'
import { asStore, describeStore, isStore, type Store } from './store.js'
import { TurnStream } from './stream.js'
import { type Called, type DescribedTool, describeTools, Functions } from './tool.js'
import type {
  Content,
  Context,
  DayUsage,
  Feedback,
  Imported,
  Message,
  Metadata,
  Page,
  Reply,
  Session,
  Status,
  Turn,
} from './types.js'

/** Where data is kept when nobody says. */
const LOCATION = 'neuro-tutor-data'

const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol.for('nodejs.asyncDispose') as typeof Symbol.asyncDispose)

/** What all handles of a tutor share. */
interface Shared {
  readonly causes: Causes
  readonly providers: Providers
  readonly functions: Functions
  /** Tools of every turn that the caller runs. */
  readonly clientTools: readonly DescribedTool[]
}

/**
 * A tutor: conversations with learners, durable and streamed.
 *
 * Everything that fails rejects with a {@link TutorError}. An idle tutor keeps no process alive; one
 * that is not closed loses nothing either, but its data stays locked until the process ends.
 *
 * @example
 * ```ts
 * const tutor = await Tutor.open('data')
 * for await (const event of tutor.stream('What is photosynthesis?')) {
 *   if (event.type === 'text.delta') process.stdout.write(event.text)
 * }
 * await tutor.close()
 * ```
 */
export class Tutor {
  readonly #native: NativeTutor
  readonly #shared: Shared
  readonly #causes: Causes

  private constructor(handle: NativeTutor, shared: Shared) {
    this.#native = handle
    this.#shared = shared
    this.#causes = shared.causes
  }

  /**
   * Opens a tutor, and ends the turns that a crash left running.
   *
   * `location` is a directory (`neuro-tutor-data` by default), a `file:` URL of one, a URL
   * (`sled:./data`, `sqlite:///…`, `postgresql://…`, `memory:`), or a store of your own.
   *
   * Fails with `store_locked` if another process has the data, `config` for wrong options, and errors
   * of the store.
   */
  static open(location: string | URL | Store = LOCATION, options: TutorOptions = {}): Promise<Tutor> {
    return Tutor.#open(location, options)
  }

  /**
   * Opens a tutor whose providers the environment configures: `OPENAI_API_KEY`, `OPENAI_BASE_URL`,
   * `OPENAI_MODEL`, `ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL`, `ANTHROPIC_MODEL`. Without any the demo
   * provider answers. Those of `options` come behind them. Nothing else reads the environment.
   */
  static fromEnv(location: string | URL | Store = LOCATION, options: TutorOptions = {}): Promise<Tutor> {
    return Tutor.#open(location, options, process.env)
  }

  static async #open(location: string | URL | Store, options: TutorOptions, env?: NodeJS.ProcessEnv): Promise<Tutor> {
    const { providers = [], tools = {}, ...rest } = knownOptions('tutor', options, OPENING, 'config')
    const causes = new Causes()
    const runner = new Providers(causes)
    const store = isStore(location) ? location : undefined
    const { own, called, clients } = describeTools(tools, 'config')
    const functions = new Functions(store === undefined ? called : [...called, asStore(store)], causes)
    const cancel = (call: number): void => {
      runner.cancel(call)
      functions.cancel(call)
    }
    const handle = new native.NativeTutor()
    const tutor = new Tutor(handle, { causes, providers: runner, functions, clientTools: clients })
    const plain = toJson(
      {
        ...rest,
        location: isStore(location) ? undefined : place(location),
        store: store && describeStore(store),
        tools: own,
        providers: describeProviders(providers, runner),
        env,
      },
      'config',
    )
    await tutor.#result(handle.open(plain, runner.start, functions.ask, cancel, functions.forget))
    return tutor
  }

  /** Whose data this handle reads and writes. */
  get owner(): string {
    return this.#native.owner ?? ''
  }

  /** The same tutor for another owner, whose data only that handle can name. */
  forOwner(owner: string): Tutor {
    const scoped = this.#native.forOwner(text('owner', owner))
    if ('json' in scoped) throw fromNative(scoped, this.#causes)
    return new Tutor(scoped, this.#shared)
  }

  /**
   * Asks, and waits for the whole reply.
   *
   * Fails like {@link stream}, and with what ended the turn; whatever had arrived by then is stored.
   * An aborted signal stops the turn and rejects with an `AbortError`.
   */
  async chat<T = unknown>(message: Content | undefined, options: ChatOptions<T> = {}): Promise<Reply<T>> {
    const { signal, output, tools, ...rest } = knownOptions<ChatOptions<T>>('request', options, CHAT)
    checkSignal(signal)
    const { own, called, clients } = describeTools(tools ?? {}, 'invalid_input')
    const plain = { ...rest, output: describeOutput(output), clientTools: this.#clientTools(clients) }
    const request = await asRequest(message, plain, this.#native.maxAttachmentBytes)
    checkSignal(signal)
    const call = this.#native.chat(request, this.#tools(own, called))
    const end = onAbort(signal, () => call.cancel())
    try {
      const outcome = await call.run()
      if (signal?.aborted && outcome.error) throw abortError(signal)
      return await typed(output, toReply(outcome, this.#causes))
    } finally {
      end()
    }
  }

  /**
   * Asks, and streams the reply. Nothing is asked before the first event is; when it comes, the
   * learner's words are stored.
   *
   * The first `next()` rejects with `invalid_input`, `too_large`, `not_found` for the session,
   * `conflict` if the session has a running turn (its id is in the context as `turn`) or the
   * idempotency key names another request, `overloaded`, or an error of the store. Later failures are
   * the last event. An aborted signal stops the turn and rejects with an `AbortError`.
   */
  stream<T = unknown>(message: Content | undefined, options: StreamOptions<T> = {}): TurnStream<T> {
    return this.#stream(message, checkedOptions(options))
  }

  /**
   * Answers what `useChat` of the AI SDK sends, which is the parsed body of its request: a new message, one
   * that was edited, what the tools of the page gave, or the wish for another reply. Hand the stream to
   * {@link toUIMessageStreamResponse}.
   *
   * The conversation is the chat's `id`, unless `session` says another one, and is created if there is
   * none. Its earlier messages are stored already, so that only what is new is taken. Tools that the page
   * runs are those without `execute` in `tools`, here or of the tutor: as everywhere, the body decides
   * nothing about tools and models. Fails as {@link stream}.
   */
  streamUI<T = unknown>(body: unknown, options: UiOptions<T> = {}): TurnStream<T> {
    for (const name of ['attachments', 'createSession', 'edit', 'messages', 'parent', 'regenerate']) {
      if (name in checkedOptions(options)) throw wrongOption(name)
    }
    return this.#stream(undefined, options, { ui: body ?? null })
  }

  #stream<T>(message: Content | undefined, options: StreamOptions<T>, more: { ui?: unknown } = {}): TurnStream<T> {
    const { signal, output, tools, ...rest } = options
    const open = async () => {
      knownOptions<StreamOptions<T>>('request', options, STREAM)
      const { own, called, clients } = describeTools(tools ?? {}, 'invalid_input')
      const plain = { ...rest, ...more, output: describeOutput(output), clientTools: this.#clientTools(clients), streamed: true }
      const request = await asRequest(message, plain, this.#native.maxAttachmentBytes)
      return this.#native.stream(request, this.#tools(own, called))
    }
    return new TurnStream<T>(open, this.#causes, signal, undefined, (reply) => typed(output, reply))
  }

  /**
   * The events of a turn behind number `after` (0 for all): first those that have happened, then those
   * that come. The same events as were streamed, also after a restart.
   *
   * Fails with `not_found`, and errors of the store. An aborted signal ends the stream only.
   */
  events(turnId: string, options: { after?: number | undefined; signal?: AbortSignal | undefined } = {}): TurnStream {
    const { after = 0, signal } = knownOptions('stream', options, { after: true, signal: true })
    const open = async () => this.#native.events(text('turnId', turnId), typeof after === 'number' ? after : NaN)
    return new TurnStream(open, this.#causes, signal, turnId)
  }

  /**
   * Stops a turn and returns it as it ended; one that has ended already as it is. What had arrived is
   * kept. Fails with `not_found`.
   */
  async cancel(turnId: string): Promise<Turn> {
    return this.#result(this.#native.cancel(text('turnId', turnId)))
  }

  /** A turn. Fails with `not_found`. */
  async turn(turnId: string): Promise<Turn> {
    return this.#result(this.#native.turn(text('turnId', turnId)))
  }

  /** The turn that this idempotency key names; null if there is none. */
  async turnByKey(idempotencyKey: string): Promise<Turn | null> {
    return this.#result(this.#native.turnByKey(text('idempotencyKey', idempotencyKey)))
  }

  /** Stops all turns of this owner that run here, and waits until they have ended. What had arrived is kept. */
  async cancelAll(): Promise<void> {
    await this.#result(this.#native.cancelAll())
  }

  /** A page of sessions, the latest used first. `limit` is 1 to 200, 50 by default. */
  async sessions(options: { limit?: number | undefined; cursor?: string | null | undefined } = {}): Promise<Page<Session>> {
    return this.#result(this.#native.sessions(toJson(checkedOptions(options))))
  }

  /**
   * A page of the sessions in which all these words occur, in the title or in messages on any branch;
   * letters' case is no matter. The latest used first. `limit` is 1 to 200, 50 by default.
   *
   * A page may have fewer sessions than `limit`, even none, and a cursor all the same: then as much was
   * looked into as one call may, and the cursor goes on there.
   */
  async search(
    words: string,
    options: { limit?: number | undefined; cursor?: string | null | undefined } = {},
  ): Promise<Page<Session>> {
    return this.#result(this.#native.search(text('words', words), toJson(checkedOptions(options))))
  }

  /** A session. Fails with `not_found`. */
  async session(id: string): Promise<Session> {
    return this.#result(this.#native.session(text('id', id)))
  }

  /** Creates an empty session. Fails with `conflict` if the id is taken. */
  async createSession(
    options: { id?: string | undefined; title?: string | undefined; metadata?: Metadata | undefined } = {},
  ): Promise<Session> {
    return this.#result(this.#native.createSession(toJson(checkedOptions(options))))
  }

  /** Gives a session another title: 1 to 200 characters. Fails with `not_found`. */
  async renameSession(id: string, title: string): Promise<Session> {
    return this.updateSession(id, { title: text('title', title) })
  }

  /** Changes a session; what is absent stays as it is. Fails with `not_found`. */
  async updateSession(
    id: string,
    changes: { title?: string | undefined; metadata?: Metadata | undefined },
  ): Promise<Session> {
    return this.#result(this.#native.updateSession(text('id', id), toJson(checkedOptions(changes))))
  }

  /** Deletes a session with everything in it, stopping its running turn. False if there was none. */
  async deleteSession(id: string): Promise<boolean> {
    return this.#result(this.#native.deleteSession(text('id', id)))
  }

  /**
   * A page of a session's messages, oldest first: the newest ones, or those before or after a message.
   * `limit` is 1 to 200, 200 by default. `leaf` reads the branch that ends there, `all` the whole tree.
   *
   * Fails with `not_found` for the session, `invalid_input` for a message that is not in it.
   */
  async messages(
    sessionId: string,
    options: {
      limit?: number | undefined
      before?: string | null | undefined
      after?: string | null | undefined
      leaf?: string | undefined
      all?: boolean | undefined
    } = {},
  ): Promise<Page<Message>> {
    return this.#result(this.#native.messages(text('sessionId', sessionId), toJson(checkedOptions(options))))
  }

  /**
   * Finds a message whose session is not known: in the session that was used last, if several have one of
   * this id. Costs a look into each session. Fails with `not_found`.
   */
  async findMessage(messageId: string): Promise<Message> {
    return this.#result(this.#native.findMessage(text('messageId', messageId)))
  }

  /**
   * The messages that follow what this one follows, itself among them, as they were stored: replies that
   * were written again, or a learner's message as it was edited. Fails with `not_found`.
   */
  async siblings(sessionId: string, messageId: string): Promise<Message[]> {
    return this.#result(this.#native.siblings(text('sessionId', sessionId), text('messageId', messageId)))
  }

  /**
   * Switches the active branch to the one that ends with this message: the next message follows it. Fails
   * with `not_found`.
   */
  async setHead(sessionId: string, messageId: string): Promise<Session> {
    return this.#result(this.#native.setHead(text('sessionId', sessionId), text('messageId', messageId)))
  }

  /**
   * Deletes a message for good, with the turn that wrote or answered it; with `withBranch` also all that
   * follows it, on every branch. Gives how many messages were deleted.
   *
   * Fails with `not_found`, and with `conflict` if other messages follow this one and `withBranch` is not
   * true, or while a turn runs in the session.
   */
  async deleteMessage(
    sessionId: string,
    messageId: string,
    options: { withBranch?: boolean | undefined } = {},
  ): Promise<number> {
    const { withBranch = false } = knownOptions('deletion', options, { withBranch: true })
    const session = text('sessionId', sessionId)
    return this.#result(this.#native.deleteMessage(session, text('messageId', messageId), withBranch === true))
  }

  /**
   * What a model would be sent of a conversation as it is now, before the next message: within `tokens`,
   * or within what the limits and the window of the session's model allow.
   *
   * @example
   * ```ts
   * const { messages, leftOut } = await tutor.context(session.id, { tokens: 4000 })
   * ```
   *
   * Fails with `not_found`.
   */
  async context(sessionId: string, options: { tokens?: number | undefined } = {}): Promise<Context> {
    const { tokens } = knownOptions('context', options, { tokens: true })
    if (tokens !== undefined && !(Number.isInteger(tokens) && tokens >= 0 && tokens <= 0xffff_ffff)) {
      throw new TutorError('invalid_input', 'tokens is a whole number from 0', { context: { field: 'tokens' } })
    }
    return this.#result(this.#native.context(text('sessionId', sessionId), tokens))
  }

  /**
   * Keeps what somebody thinks of a message, in place of what they thought before; null takes it back. Gives
   * what is kept. A `comment` has 1 to 4000 characters.
   *
   * @example
   * ```ts
   * await tutor.rate(reply.sessionId, reply.message.id, 'up', { comment: 'Clear.' })
   * ```
   *
   * Fails with `not_found`, and with `config` for a store of your own that keeps no records.
   */
  async rate(
    sessionId: string,
    messageId: string,
    rating: 'up' | 'down' | null,
    options: { comment?: string | undefined } = {},
  ): Promise<Feedback | null> {
    if (rating === undefined) {
      throw new TutorError('invalid_input', 'rating is up, down, or null to take it back', { context: { field: 'rating' } })
    }
    const opinion = toJson({ ...checkedOptions(options), rating })
    return this.#result(this.#native.rate(text('sessionId', sessionId), text('messageId', messageId), opinion))
  }

  /** What is thought of the messages of a session. Fails with `not_found`. */
  async feedback(sessionId: string): Promise<Feedback[]> {
    return this.#result(this.#native.feedback(text('sessionId', sessionId)))
  }

  /**
   * What this owner used, in the order of days: those from `from` to `to`, which are written like
   * `2026-11-26`; all before or behind if one is absent.
   *
   * Fails with `config` for a store of your own that keeps no records.
   */
  async usage(range: { from?: string | undefined; to?: string | undefined } = {}): Promise<DayUsage[]> {
    return this.#result(this.#native.usage(toJson(checkedOptions(range))))
  }

  /** How much each owner may use in a day; null for any amount. */
  async quota(): Promise<{ [amount in keyof Quota]-?: number | null }> {
    return this.#result(this.#native.quota())
  }

  /** The uploaded files of this owner. */
  get files(): Files {
    return new Files(this.#native.files(), this.#causes)
  }

  /** How the tutor is: where the data is, and what runs. */
  async status(): Promise<Status> {
    return this.#result(this.#native.status())
  }

  /**
   * Removes everything that is this owner's: running turns are stopped, and all conversations, files and
   * records deleted. It cannot be undone. Interrupted, it has removed some; called again, it removes the rest.
   */
  async erase(): Promise<{ sessions: number; records: number }> {
    return this.#result(this.#native.erase())
  }

  /**
   * A list of items that are another library's.
   *
   * @internal
   */
  items(name: string): Items {
    return new Items(this.#native.items(text('sessionId', name)), this.#causes)
  }

  /** The configured providers, the default first. `models` is null where any name may be asked for. */
  async providers(): Promise<{ name: string; defaultModel: string; models: string[] | null }[]> {
    return this.#result(this.#native.providers())
  }

  /**
   * Has these providers answer from now on, the first or the named one by default, for this tutor and all
   * its handles. Turns that run are not disturbed. Fails with `config`; then nothing is changed.
   */
  async replaceProviders(
    providers: readonly (Provider | ProviderOptions | ProviderKind)[],
    options: { defaultProvider?: string | undefined } = {},
  ): Promise<void> {
    const { defaultProvider } = knownOptions('replacement', options, { defaultProvider: true }, 'config')
    const described = describeProviders(providers, this.#shared.providers)
    const name = defaultProvider === undefined ? undefined : text('defaultProvider', defaultProvider, 'config')
    await this.#result(this.#native.replaceProviders(toJson(described, 'config'), name))
  }

  /** The models of one provider. Fails with `not_found`, and with what the provider answers. */
  async models(provider: string): Promise<{ id: string; contextWindow?: number }[]> {
    return this.#result(this.#native.models(text('provider', provider)))
  }

  /**
   * Everything that is this owner's, as lines of JSON in UTF-8: what one store knows, {@link import}
   * makes another one know exactly. `everyone` exports what is anybody's, `since` only sessions that
   * changed then or later. Fails with errors of the store.
   *
   * @example
   * ```ts
   * await pipeline(tutor.export(), createWriteStream('backup.jsonl'))
   * ```
   */
  async *export(
    options: {
      everyone?: boolean | undefined
      since?: Date | string | undefined
      skipDamaged?: boolean | undefined
    } = {},
  ): AsyncGenerator<Uint8Array, undefined> {
    const { since, ...rest } = checkedOptions(options)
    // An invalid date has no JSON; its text is refused by its name.
    const moment = since instanceof Date ? (since.toJSON() ?? String(since)) : since
    const exporter = this.#native.export(toJson({ ...rest, since: moment }))
    for (;;) {
      const { bytes, error } = await exporter.next()
      if (error !== undefined && error !== null) throw fromNative(error, this.#causes)
      if (bytes === undefined || bytes === null) return undefined
      yield bytes
    }
  }

  /**
   * Takes what {@link export} wrote: a stream, or anything else that yields its bytes or its text. Each
   * session is written whole or not at all; doing it again does what is left to do. Everything becomes
   * this owner's, unless `everyone` keeps the owners.
   *
   * Fails with `invalid_input` for an export that is damaged or not whole, `conflict` for what is there
   * and differs (unless `onConflict` says what to do), and errors of the store.
   */
  async import(
    source: AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string> | Uint8Array,
    options: { everyone?: boolean | undefined; onConflict?: 'fail' | 'keep' | 'replace' | undefined } = {},
  ): Promise<Imported> {
    const importer = this.#native.import(toJson(checkedOptions(options)))
    // A string is one piece, not as many as it has characters.
    const pieces = typeof source === 'string' || source instanceof Uint8Array ? [source] : source
    if (!isIterable(pieces)) throw wrongSource()
    for await (const piece of pieces) {
      if (typeof piece !== 'string' && !(piece instanceof Uint8Array)) throw wrongSource()
      await this.#result(importer.write(Buffer.from(piece as Uint8Array)))
    }
    return this.#result(importer.finish())
  }

  /**
   * Serves this tutor over HTTP, in this process: the whole API of the server, with the providers of
   * this tutor. It asks nobody who they are: keep it on this machine, or behind a proxy that does.
   *
   * Fails with `config` if it cannot listen there.
   */
  async serve(options: ServeOptions = {}): Promise<Server> {
    const { host = '127.0.0.1', port = 8000, corsOrigins } = knownOptions('server', options, SERVING, 'config')
    if (!Number.isInteger(port) || port < 0 || port > 65_535) {
      throw new TutorError('config', 'port is a whole number from 0 to 65535', { context: { field: 'port' } })
    }
    if (corsOrigins !== undefined && !(Array.isArray(corsOrigins) && corsOrigins.every((origin) => typeof origin === 'string'))) {
      throw new TutorError('config', 'corsOrigins is an array of origins, such as http://localhost:5173', { context: { field: 'corsOrigins' } })
    }
    const server = this.#native.server()
    const listening = server.listen(text('host', host, 'config'), port, corsOrigins?.join(','))
    return new Server(server, await this.#result(listening), this.#causes)
  }

  /**
   * Closes the tutor and all handles of it: takes no new turn, waits a while for those that run, ends
   * the others as interrupted, and closes the store. Idempotent.
   */
  async close(options: { graceMs?: number | undefined } = {}): Promise<void> {
    const { graceMs } = knownOptions('closing', options, { graceMs: true })
    // What is no number is none from 0 either.
    const grace = graceMs === undefined || typeof graceMs === 'number' ? graceMs : NaN
    await this.#result(this.#native.close(grace))
  }

  async [asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Tools of one turn that the engine has called here, as it is told of them. */
  #tools(own: DescribedTool[], called: Called[]): string | undefined {
    if (own.length === 0) return undefined
    const { functions } = this.#shared
    // First what can fail: nothing is kept then.
    const plain = toJson(own)
    const described = JSON.parse(plain) as object[]
    return JSON.stringify(described.map((tool, index) => ({ ...tool, function: functions.add(called[index] as Called) })))
  }

  #clientTools(clients: DescribedTool[]): DescribedTool[] | undefined {
    const all = [...this.#shared.clientTools, ...clients]
    return all.length === 0 ? undefined : all
  }

  async #result<T>(outcome: Promise<Outcome>): Promise<T> {
    return unwrap(await outcome, this.#causes)
  }
}

function place(location: string | URL): string {
  if (!(location instanceof URL)) return location
  return location.protocol === 'file:' ? fileURLToPath(location) : location.href
}

function wrongOption(field: string): TutorError {
  return new TutorError('invalid_input', `streamUI takes no ${field}: what is sent by useChat says it`, { context: { field } })
}

function isIterable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value)
}

function wrongSource(): TutorError {
  return new TutorError('invalid_input', 'an import reads a stream, or pieces, of what export wrote: bytes or text', {
    context: { field: 'source' },
  })
}
