/**
 * The tutoring engine that people embed: conversations with learners, durable and streamed from any
 * LLM. Start with {@link Tutor}.
 *
 * @packageDocumentation
 */
export { type AiSdkModel, fromAiSdk } from './ai-sdk.js'
export { type ErrorCode, TutorError, type TutorErrorOptions } from './errors.js'
export type { CompletionRequest, Delta, Deltas, Provider, ProviderKind, ProviderOptions } from './provider.js'
export { Server, type ServeOptions } from './server.js'
export { TurnStream } from './stream.js'
export { type ChatOptions, type Limits, type StreamOptions, Tutor, type TutorOptions } from './tutor.js'
export type {
  Content,
  Failure,
  FinishReason,
  Imported,
  Message,
  Metadata,
  Notice,
  Page,
  Part,
  Reply,
  Role,
  Session,
  Turn,
  TurnEvent,
  TurnStatus,
  Usage,
} from './types.js'
export { toUIMessageChunks, toUIMessageStreamResponse, type UiMessageChunk } from './ui-message.js'
