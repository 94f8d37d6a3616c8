import type { Attachment } from './attachment.js'
import type { Names } from './checked.js'
import type { Output } from './output.js'
import type { Provider, ProviderKind, ProviderOptions } from './provider.js'
import type { Tools } from './tool.js'
import type { Content, Metadata } from './types.js'

/** The engine's bounds. Every one has a default; reaching one is a clear error to the newcomer. */
export interface Limits {
  /** Turns running at a time, over all owners. One more is `overloaded`. */
  maxLiveTurns?: number | undefined
  /** Turns of one owner running at a time. One more is `rate_limited`. */
  maxLiveTurnsPerOwner?: number | undefined
  /** Messages in one request. */
  maxRequestMessages?: number | undefined
  /** Bytes of one message, and of all messages of a request. More are `too_large`. */
  maxRequestBytes?: number | undefined
  /** Bytes of one image or file that is sent in a message. More are `too_large`. */
  maxAttachmentBytes?: number | undefined
  /** Images and files in all messages of a request. More are `too_large`. */
  maxAttachments?: number | undefined
  /** Bytes of a request's preferences, or of a session's metadata, as JSON. */
  maxObjectBytes?: number | undefined
  /** Bytes of a reply. A longer one ends the turn with `too_large`; what had arrived is kept. */
  maxReplyBytes?: number | undefined
  /** Events of a turn. */
  maxEvents?: number | undefined
  /** How long a turn may take. Longer ends it with `timeout`; what had arrived is kept. */
  turnTimeoutMs?: number | undefined
  /** How often the partial reply of a running turn is saved. */
  checkpointIntervalMs?: number | undefined
  /** How long a running turn is believed to be alive without a sign of life. */
  leaseMs?: number | undefined
  /** How long the events of an ended turn stay in memory. */
  replayRetentionMs?: number | undefined
  /** Bytes of all events of ended turns in memory. */
  replayBytes?: number | undefined
  /**
   * Tokens that a model is sent at most, by estimate, also if its window is larger. Older messages are
   * left out.
   */
  contextTokens?: number | undefined
  /** Tokens of a model's window that are kept free for the reply. */
  replyTokens?: number | undefined
  /** Tokens that a summary of a conversation's beginning may have. */
  summaryTokens?: number | undefined
  /** How often in a turn a model may call tools and go on. Once more ends it with `too_large`. */
  maxToolRounds?: number | undefined
  /** Tools that a model may call at a time. It is told that further calls were not made. */
  maxToolCalls?: number | undefined
  /** How long a tool may take. The model is told that a slower one did not answer. */
  toolTimeoutMs?: number | undefined
  /** Bytes of a tool's result as JSON. The model is told that a longer one was too long. */
  maxToolResultBytes?: number | undefined
  /** How long closing waits for running turns. */
  closeGraceMs?: number | undefined
}

/** How a tutor is opened. */
export interface TutorOptions {
  /**
   * Who answers: built-in providers, by their kind or with options, and providers of your own. The
   * first one is the default. Without any, the demo provider answers.
   */
  providers?: readonly (Provider | ProviderOptions | ProviderKind)[] | undefined
  /** The name of the provider that answers when a request names none. */
  defaultProvider?: string | undefined
  /** Whose data this handle reads and writes; `local` by default. */
  owner?: string | undefined
  /** Instructions that precede every conversation. */
  systemPrompt?: string | undefined
  limits?: Limits | undefined
  /** How much each owner may use in a day; anything by default. */
  quota?: Quota | undefined
  /**
   * Where uploaded files are kept: a directory, or that and how much is taken. By default beside the data
   * (`data-files`), and in memory with `memory:`; nowhere for a store of your own.
   */
  files?: string | FileOptions | undefined
  /** Tools that models may call, by their names. */
  tools?: Tools | undefined
  /**
   * True to have the provider make a better title after a conversation's first turn, in the background.
   * Costs tokens. A title of the caller's own is never replaced.
   */
  improveTitles?: boolean | undefined
  /**
   * True to have the provider summarize, in the background, messages that are too old to be sent, and to
   * send the summary in their place. Costs tokens.
   */
  summarize?: boolean | undefined
  /** What is known of models beyond what is built in, by their names. */
  catalog?: Readonly<Record<string, ModelCard>> | undefined
}

/** The names of all these options. */
export const OPENING: Names<TutorOptions> = {
  providers: true,
  defaultProvider: true,
  owner: true,
  systemPrompt: true,
  limits: true,
  quota: true,
  files: true,
  tools: true,
  improveTitles: true,
  summarize: true,
  catalog: true,
}

/** How much one owner may use in a day of UTC. What does not fit is refused with `rate_limited`. */
export interface Quota {
  turnsPerDay?: number | null | undefined
  /** Tokens sent and received. */
  tokensPerDay?: number | null | undefined
  /** US dollars, for models whose price is known. */
  costUsdPerDay?: number | null | undefined
  /** Bytes of uploaded files. */
  uploadBytesPerDay?: number | null | undefined
}

/** Where uploaded files are kept, and how much is taken. What is more is `too_large`. */
export interface FileOptions {
  directory?: string | undefined
  /** Bytes of a file; 10 MiB by default. */
  maxFileBytes?: number | undefined
  /** Files of an owner; 1000 by default. */
  maxFiles?: number | undefined
  /** Bytes of all files of an owner; 500 MiB by default. */
  maxBytes?: number | undefined
  /** Bytes of a file's text that a model is sent; 1 MiB by default. The rest is cut off, and that is said. */
  maxTextBytes?: number | undefined
}

/** What is known of a model. Prices are US dollars per million tokens. */
export interface ModelCard {
  /** The most tokens of a prompt. */
  contextWindow?: number | undefined
  /** The most tokens of a reply. */
  maxOutput?: number | undefined
  /** The price of what is sent; without it nothing is known of the price. */
  input?: number | undefined
  /** The price of what is received, reasoning included. */
  output?: number | undefined
  /** The price of what is read from the provider's cache; that of `input` if absent. */
  cacheRead?: number | undefined
  /** The price of what is written to the provider's cache; that of `input` if absent. */
  cacheWrite?: number | undefined
}

/** What can be said beside a message. */
export interface ChatOptions<T = unknown> {
  /** The id of the conversation to go on with; a new one if absent. */
  session?: string | undefined
  /** A model's name, or `provider/name`. */
  model?: string | undefined
  /** A configured provider's name. */
  provider?: string | undefined
  /** The sampling temperature, 0 to 2. */
  temperature?: number | undefined
  /** The most tokens the reply may have. */
  maxTokens?: number | undefined
  /** Further members are stored with the session; unknown ones are named in a notice. */
  preferences?: Metadata | undefined
  /** A name for this request: sent again, it gives the same turn. */
  idempotencyKey?: string | undefined
  /** How long the whole turn may take. */
  timeoutMs?: number | undefined
  /** Answer from this message instead of the newest. */
  parent?: string | undefined
  /** The learner's message that this one replaces, on a branch beside it. */
  edit?: string | undefined
  /** The reply beside which another one is to be written; without a message. */
  regenerate?: string | undefined
  /** True if `session` is created if there is none of that id. */
  createSession?: boolean | undefined
  /**
   * The form that the reply must have: a JSON Schema, or a schema of zod or the like, which then is the
   * type of the reply's `output`. A reply that has it not is asked for once more, and then refused.
   */
  output?: Output<T> | undefined
  /** Tools for this turn, besides those of the tutor. Those without `execute` are yours to run. */
  tools?: Tools | undefined
  /**
   * Instead of a message: several, oldest first, the last one the learner's. In a new conversation earlier
   * ones are kept as imported; in an existing one only the learner's last ones are taken.
   */
  messages?: readonly { id?: string; role: 'user' | 'assistant' | 'system'; content: Content }[] | undefined
  /** Images and files that are sent with the message. */
  attachments?: readonly Attachment[] | undefined
  /** Stops the turn when it is aborted, and keeps what had arrived. */
  signal?: AbortSignal | undefined
}

/** The names of all these options. */
export const CHAT: Names<ChatOptions> = {
  session: true,
  model: true,
  provider: true,
  temperature: true,
  maxTokens: true,
  preferences: true,
  idempotencyKey: true,
  timeoutMs: true,
  parent: true,
  edit: true,
  regenerate: true,
  createSession: true,
  output: true,
  tools: true,
  messages: true,
  attachments: true,
  signal: true,
}

/** What can be said beside what `useChat` sends. */
export type UiOptions<T = unknown> = Omit<StreamOptions<T>, 'attachments' | 'createSession' | 'edit' | 'messages' | 'parent' | 'regenerate'>

/** What can be said beside a message whose reply is streamed. */
export interface StreamOptions<T = unknown> extends ChatOptions<T> {
  /** True if the turn goes on when this stream is left. */
  detached?: boolean | undefined
}

/** The names of all these options. */
export const STREAM: Names<StreamOptions> = { ...CHAT, detached: true }
