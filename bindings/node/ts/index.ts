/**
 * The tutoring engine that people embed: conversations with learners, durable and streamed from any
 * LLM. Start with {@link Tutor}.
 *
 * @packageDocumentation
 */
export { type AiSdkModel, fromAiSdk } from './ai-sdk.js'
export type { Attachment, Bytes } from './attachment.js'
export { type ErrorCode, TutorError, type TutorErrorOptions } from './errors.js'
export type { ChatOptions, Limits, ModelCard, StreamOptions, TutorOptions } from './options.js'
export type { Output } from './output.js'
export type { CompletionRequest, Delta, Deltas, Provider, ProviderKind, ProviderOptions } from './provider.js'
export type { JsonSchema, Schema, StandardSchema } from './schema.js'
export { Server, type ServeOptions } from './server.js'
export type { Store } from './store.js'
export { TurnStream } from './stream.js'
export { type Tool, tool, type ToolContext } from './tool.js'
export { Tutor } from './tutor.js'
export type {
  Content,
  Context,
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
  UiMessageChunk,
  Usage,
} from './types.js'
export { fromUIMessage, toUIMessageChunks, toUIMessageStreamResponse, type UiMessage } from './ui-message.js'
