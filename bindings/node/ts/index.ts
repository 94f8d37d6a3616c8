/**
 * The tutoring engine that people embed: conversations with learners, durable and streamed from any
 * LLM. Start with {@link Tutor}.
 *
 * @packageDocumentation
 */
export { type AiSdkModel, fromAiSdk } from './ai-sdk.js'
export type { Attachment, Bytes } from './attachment.js'
export { type ErrorCode, TutorError, type TutorErrorOptions } from './errors.js'
export type { ChatOptions, FileOptions, Limits, ModelCard, Quota, StreamOptions, TutorOptions, UiOptions } from './options.js'
export type { Output } from './output.js'
export type { CompletionRequest, Delta, Deltas, Provider, ProviderKind, ProviderOptions } from './provider.js'
export { Files, type Upload } from './files.js'
export type { JsonSchema, Schema, StandardSchema } from './schema.js'
export { Server, type ServeOptions } from './server.js'
export type { Store } from './store.js'
export { TurnStream } from './stream.js'
export { type Tool, tool, type ToolContext, type Tools } from './tool.js'
export { Tutor } from './tutor.js'
export type {
  Content,
  Context,
  DayUsage,
  Failure,
  Feedback,
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
  Status,
  ToolCall,
  Turn,
  TurnEvent,
  TurnStatus,
  UiMessageChunk,
  UploadedFile,
  Usage,
} from './types.js'
export { toUIMessageChunks, toUIMessageStreamResponse } from './ui-message.js'
