import type { ErrorCode } from './errors.js'

/** Any value that JSON can say. */
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json }

/** An object of a caller's own. */
export type Metadata = Record<string, unknown>

/** Whose words a message is to the model. */
export type Role = 'system' | 'user' | 'assistant'

/** A piece of a message. */
export type Part =
  | { type: 'text'; text: string }
  /** An image, by an `https:` or `data:` URL. */
  | { type: 'image'; url: string; mediaType?: string }
  /** An uploaded file. */
  | { type: 'file'; fileId: string; name?: string; mediaType?: string }
  /** A tool that the model asked for. */
  | { type: 'tool_call'; callId: string; name: string; arguments: unknown }
  /** What a provider wants to be sent again. Of no meaning to anybody else. */
  | { type: 'replay'; protocol: string; data: unknown }
  /** What a tool answered. */
  | { type: 'tool_result'; callId: string; /** Need not be sent: it is that of the call. */ name?: string; result: unknown; isError?: boolean }

/** What was said: a text, or parts of several kinds. */
export type Content = string | Part[]

/** Why a reply ended. */
export type FinishReason =
  | 'stop'
  /** It reached a token limit. */
  | 'length'
  /** The model wants tools to be called. */
  | 'tool_calls'
  /** The provider withheld the rest. */
  | 'content_filter'
  /** The model declined to answer. */
  | 'refusal'
  /** The model paused; asking again goes on. */
  | 'pause'
  | 'cancelled'
  | 'other'

/** What a reply consumed. A figure is absent when the provider did not say. */
export interface Usage {
  /** Tokens sent, including those read from and written to a cache. */
  inputTokens?: number
  /** Of `inputTokens`, those read from the provider's cache. */
  cachedInputTokens?: number
  /** Of `inputTokens`, those written to the provider's cache. */
  cacheWriteTokens?: number
  /** Tokens received, including reasoning. */
  outputTokens?: number
  /** Of `outputTokens`, those spent on reasoning. */
  reasoningTokens?: number
  /** US dollars. */
  costUsd?: number
}

/** One message of a conversation. */
export interface Message {
  /** Unique in the session. */
  id: string
  sessionId: string
  /** What it answers or follows; null for the first one. */
  parentId: string | null
  /** The turn that wrote it. */
  turnId: string | null
  role: Role
  content: Content
  /** `partial`: a reply that was cut off. `imported`: taken over from elsewhere. */
  status: 'complete' | 'partial' | 'imported'
  /** Who wrote it. */
  author: 'learner' | 'tutor' | 'teacher'
  /** Who may see it; absent for everyone. */
  visibleTo?: ('learner' | 'teacher' | 'model')[]
  /** When it was stored: RFC 3339, UTC. */
  timestamp: string
  /** The provider that made this reply. */
  provider?: string
  /** The model that made this reply. */
  model?: string
  usage?: Usage
  finishReason?: FinishReason
  /** The caller's own data. */
  metadata?: Metadata
}

/** A conversation. */
export interface Session {
  /** Unique per owner. */
  id: string
  owner: string
  title: string
  /** RFC 3339, UTC. */
  createdAt: string
  /** When a turn of it last began or ended, or it was changed: RFC 3339, UTC. */
  updatedAt: string
  /** Messages on all branches. */
  messageCount: number
  /** The last message of the active branch; null while there is none. */
  head: string | null
  /** The turn that is running. */
  runningTurn: string | null
  /** The preferences of its latest request, spelled as they are stored: `max_tokens`. */
  preferences: Metadata
  /** The caller's own data. */
  metadata: Metadata
  /** True if the title is the caller's own: it is never replaced. */
  ownTitle: boolean
  /** What stands for messages that are too old to be sent: a text, and the newest message it covers. */
  summary?: { text: string; through: string; madeAt: string }
}

/** What of a conversation a model is sent. */
export interface Context {
  /** The instructions, which are always sent whole. */
  system: string | null
  /** The conversation, oldest first. A summary of what is left out comes first, as the user's words. */
  messages: { role: 'user' | 'assistant'; content: Content }[]
  /** About how many tokens all this is. */
  tokens: number
  /** The id of the newest message that is left out; null if everything is sent. */
  leftOut: string | null
  /** True if a summary stands for all that is left out. */
  summarized: boolean
  /** What the caller should know about it. */
  notices: Notice[]
}

/** How far a turn is. */
export type TurnStatus = 'running' | 'completed' | 'cancelled' | 'failed' | 'interrupted'

/** One exchange: what the learner said, and the tutor's reply. */
export interface Turn {
  /** Unique per owner. */
  id: string
  owner: string
  sessionId: string
  userMessageId: string
  /** The id that the reply has, or will have. */
  replyMessageId: string
  status: TurnStatus
  provider: string
  model: string
  /** RFC 3339, UTC. */
  startedAt: string
  /** RFC 3339, UTC; null while it runs. */
  endedAt: string | null
  idempotencyKey: string | null
  /** True if a reply is stored. */
  hasReply: boolean
  /** Why it failed. */
  error: Failure | null
  finishReason: FinishReason | null
  usage: Usage | null
}

/** Why a turn failed, as it is stored. {@link TurnStream.error} has the whole error. */
export interface Failure {
  code: ErrorCode
  /** A sentence for people. */
  message: string
  /** True if the same request may succeed later. */
  retryable: boolean
  /** Milliseconds to wait before trying again; absent when nobody said. */
  retryAfterMs?: number
}

/** Something that the user of the API should know; never an error. */
export interface Notice {
  /** A stable word. */
  code: string
  /** A sentence for people. */
  message: string
}

/**
 * One event of a turn. `seq` is 1, 2, 3 … without gaps; `turn.started` comes first, and exactly one of
 * `turn.finished` and `turn.failed` last.
 */
export type TurnEvent = { /** The place in the turn, from 1. */ seq: number } & (
  | {
      /** The turn is stored: the learner's words are safe. */
      type: 'turn.started'
      turnId: string
      sessionId: string
      userMessageId: string
      replyMessageId: string
      provider: string
      model: string
    }
  /** More of the reply: only what is new. */
  | { type: 'text.delta'; text: string }
  /** More of the model's visible thinking. */
  | { type: 'reasoning.delta'; text: string }
  /** The model asks for a tool. `arguments` is an object, or the text that it wrote instead. */
  | { type: 'tool.call'; callId: string; name: string; arguments: unknown }
  /** What a tool answered. */
  | { type: 'tool.result'; callId: string; result: unknown; isError?: boolean }
  /** A retry replaces what was sent: drop all text, reasoning and calls so far. */
  | { type: 'attempt.restarted'; attempt: number; reason: string }
  | ({ type: 'notice' } & Notice)
  /** Data of the tutoring layer. */
  | { type: 'data'; name: string; value: unknown }
  /** What the turn consumed. At most once. */
  | ({ type: 'usage' } & Usage)
  /** The reply is stored. */
  | { type: 'turn.finished'; message: Message; finishReason: FinishReason; status: 'completed' | 'cancelled' }
  /** The turn failed. `partial` is what had arrived, if anything, and is stored. */
  | { type: 'turn.failed'; error: Failure; partial?: Message }
)

/** A tool that a reply asks the caller to run. */
export interface ToolCall {
  /** Pairs the call with its result: `{ type: 'tool_result', callId, result }` in the next message. */
  callId: string
  name: string
  /** An object, or the text that the model wrote instead. */
  arguments: unknown
}

/** A whole reply. */
export interface Reply<T = unknown> {
  /** The reply's text. */
  text: string
  /** Calls of tools that are yours to run: those of the reply that have no result. */
  toolCalls: ToolCall[]
  /** The stored message. */
  message: Message
  /** The conversation, also if it was just created. */
  sessionId: string
  turnId: string
  status: 'completed' | 'cancelled'
  finishReason: FinishReason
  /** What it consumed; null if the provider did not say. */
  usage: Usage | null
  /** What the caller should know about this reply. */
  warnings: Notice[]
  /** What the reply is as JSON, if that was asked for; else null. */
  output: T
}

/** An uploaded file. */
export interface UploadedFile {
  /** Unique; how messages name it. */
  id: string
  /** The name that it was uploaded under, without a path; null for none. */
  name: string | null
  /** What it is, by its bytes: an image, `application/pdf`, or `text/…`. */
  mediaType: string
  /** Its length. */
  bytes: number
  /** RFC 3339, UTC. */
  createdAt: string
}

/** What one owner used in one day. */
export interface DayUsage {
  owner: string
  /** Of UTC, like `2026-11-26`: the one in which a turn began. */
  day: string
  /** Turns that have ended. */
  turns: number
  /** Of them, those that failed or were interrupted. */
  failedTurns: number
  /** Of them, those that were cancelled. */
  cancelledTurns: number
  /** Tokens sent, by the providers' count, or by estimate where they did not say. */
  inputTokens: number
  /** Tokens received, likewise. */
  outputTokens: number
  /** US dollars, of models whose price is known. */
  costUsd: number
  /** Milliseconds to the first word, on average; null if there was none. */
  firstTokenMs: number | null
  /** Thumbs up for replies, given on this day. */
  thumbsUp: number
  /** Thumbs down, likewise. */
  thumbsDown: number
  /** Bytes of files that were uploaded, whether they are still there or not. */
  uploadBytes: number
}

/** What somebody thinks of a message. */
export interface Feedback {
  messageId: string
  sessionId: string
  rating: 'up' | 'down'
  /** Their words; null for none. */
  comment: string | null
  /** When it was said last: RFC 3339, UTC. */
  updatedAt: string
}

/** How a tutor is. */
export interface Status {
  /** What kind of store it has, such as `sled`; for people. */
  store: string
  /** Where the data is, without credentials; for people. */
  location: string
  /** What an acknowledged write survives: nothing, the end of the process, the loss of power. */
  durability: 'none' | 'process' | 'power'
  /** Replies that are being written now, over all owners. */
  liveTurns: number
  /** Turns that a crash had left running, and that this tutor ended, over all owners. */
  recoveredTurns: number
}

/** Some items, and how to get more. */
export interface Page<T> {
  items: T[]
  /** Give it back to go on behind the last item in reading direction; null if there is nothing more. */
  nextCursor: string | null
}

/** What an import has done. */
export interface Imported {
  /** What the export has. */
  read: { sessions: number; messages: number; turns: number; records: number }
  /** Sessions and records that were not there before. */
  added: number
  /** Those that were there already, equal. */
  unchanged: number
  /** Those that were there, differed, and were replaced. */
  replaced: number
  /** Those that were there, differ, and were kept. */
  kept: number
  /** Records that were left out since everything becomes one owner's. */
  leftOut: number
  /** Uploaded files that messages name, if any. No export has their bytes. */
  files?: number
}

/** A chunk of the AI SDK's UI message stream. */
export type UiMessageChunk = { type: string } & Record<string, unknown>
