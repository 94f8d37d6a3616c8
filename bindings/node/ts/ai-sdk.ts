import { type ErrorCode, Translated, TutorError } from './errors.js'
import type { CompletionRequest, Delta, Provider } from './provider.js'
import type { FinishReason, Part, Usage } from './types.js'

/**
 * A language model of the AI SDK, as far as it is used here: the specifications `v2` (AI SDK 5), `v3`
 * (6) and `v4` (7).
 */
export interface AiSdkModel {
  readonly specificationVersion: 'v2' | 'v3' | 'v4'
  readonly provider: string
  readonly modelId: string
  // The packages' own types differ from version to version; what is said in them is checked here.
  doStream(options: never): PromiseLike<{ stream: ReadableStream<unknown> }>
}

/** The parts of a stream that matter here, in all versions. */
type StreamPart =
  | { type: 'text-delta'; delta: string }
  | { type: 'reasoning-delta'; delta: string }
  | { type: 'tool-call'; toolCallId: string; toolName: string; input: string; providerExecuted?: boolean }
  | { type: 'finish'; finishReason: string | { unified: string }; usage?: SdkUsage }
  | { type: 'error'; error: unknown }
  | { type: 'other' }

interface SdkUsage {
  inputTokens?: number | { total?: number; cacheRead?: number; cacheWrite?: number }
  outputTokens?: number | { total?: number; reasoning?: number }
  reasoningTokens?: number
  cachedInputTokens?: number
}

/**
 * A model of the AI SDK as a provider.
 *
 * @example
 * ```ts
 * import { openai } from '@ai-sdk/openai'
 *
 * const tutor = await Tutor.open('data', { providers: [fromAiSdk(openai('gpt-5-mini'))] })
 * ```
 *
 * `name` is how requests name it: by default what the model says of its provider. Where the model
 * fails, the SDK's own error is the `cause`.
 */
export function fromAiSdk(model: AiSdkModel, options: { name?: string | undefined } = {}): Provider {
  const version = model?.specificationVersion
  if (typeof model?.doStream !== 'function' || !['v2', 'v3', 'v4'].includes(version)) {
    throw new TutorError('config', 'fromAiSdk takes a language model of the AI SDK, of version v2, v3 or v4')
  }
  return {
    name: options.name ?? model.provider.replaceAll('/', '-'),
    models: [model.modelId],
    async *stream(request, { signal }) {
      let calls = false
      try {
        const { stream } = await model.doStream(callOptions(version, request, signal) as never)
        for await (const part of stream as ReadableStream<StreamPart>) {
          if (part.type === 'error') throw part.error
          if (part.type === 'tool-call' && part.providerExecuted !== true) calls = true
          yield* deltas(part)
        }
      } catch (error) {
        throw signal.aborted ? error : failure(error)
      }
      // A stream of the SDK says that it has finished; one that does not was cut off.
      throw new TutorError('interrupted', "the model's stream ended without saying that the reply is complete", {
        retryable: !calls,
      })
    },
  }
}

function callOptions(version: string, request: CompletionRequest, signal: AbortSignal): object {
  const { system, temperature, maxTokens, tools, output } = request
  return {
    prompt: [
      ...(system === null ? [] : [{ role: 'system', content: system }]),
      ...request.messages.flatMap((message) => prompt(version, message)),
    ],
    temperature: temperature ?? undefined,
    maxOutputTokens: maxTokens ?? undefined,
    tools: tools.length === 0 ? undefined : tools.map((tool) => ({
      type: 'function',
      name: tool.name,
      description: tool.description,
      inputSchema: tool.parameters,
    })),
    responseFormat: output === null ? undefined : { type: 'json', name: output.name, schema: output.schema },
    abortSignal: signal,
  }
}

/** A message as the SDK has it: results of tools are messages of their own there. */
function prompt(version: string, { role, content }: CompletionRequest['messages'][number]): object[] {
  const parts: Part[] = typeof content === 'string' ? [{ type: 'text', text: content }] : content
  const messages: { role: string; content: object[] }[] = []
  for (const part of parts) {
    // It is for another protocol.
    if (part.type === 'replay') continue
    const speaker = part.type === 'tool_result' ? 'tool' : role
    const last = messages.at(-1)
    if (last?.role === speaker) last.content.push(promptPart(version, part))
    else messages.push({ role: speaker, content: [promptPart(version, part)] })
  }
  return messages
}

function promptPart(version: string, part: Exclude<Part, { type: 'replay' }>): object {
  switch (part.type) {
    case 'text':
      return part
    case 'image':
      return { type: 'file', ...file(version, part.url, part.mediaType ?? 'image/*') }
    case 'tool_call':
      return { type: 'tool-call', toolCallId: part.callId, toolName: part.name, input: part.arguments }
    case 'tool_result':
      return {
        type: 'tool-result',
        toolCallId: part.callId,
        toolName: part.name,
        output: {
          type: `${part.isError === true ? 'error-' : ''}${typeof part.result === 'string' ? 'text' : 'json'}`,
          value: part.result,
        },
      }
    case 'file': {
      // Texts and images were taken out of their files by the engine; of what is left a model is told the name.
      const { fileId, mediaType = 'application/octet-stream', name } = part
      if (!fileId.startsWith('data:')) return { type: 'text', text: `[attached file: ${name ?? 'unnamed'}]` }
      return { type: 'file', ...file(version, fileId, mediaType), ...(name === undefined ? {} : { filename: name }) }
    }
  }
}

/** `data:` URLs are taken apart; all others are fetched by whoever can. */
function file(version: string, url: string, mediaType: string): object {
  const inline = /^data:([^;,]+)?;base64,(.*)$/s.exec(url)
  if (inline === null) {
    const at = new URL(url)
    return { data: version === 'v4' ? { type: 'url', url: at } : at, mediaType }
  }
  const [, type = mediaType, data = ''] = inline
  return { data: version === 'v4' ? { type: 'data', data } : data, mediaType: type }
}

function* deltas(part: StreamPart): Generator<Delta> {
  switch (part.type) {
    case 'text-delta':
      yield { type: 'text.delta', text: part.delta }
      break
    case 'reasoning-delta':
      yield { type: 'reasoning.delta', text: part.delta }
      break
    case 'tool-call':
      // Tools that the provider runs itself are its own business.
      if (part.providerExecuted === true) break
      yield { type: 'tool.call', callId: part.toolCallId, name: part.toolName, arguments: part.input }
      break
    case 'finish':
      if (part.usage !== undefined) yield { type: 'usage', ...usage(part.usage) }
      yield { type: 'finished', reason: reason(part.finishReason) }
      break
    default:
      yield { type: 'heartbeat' }
  }
}

function usage({ inputTokens, outputTokens, reasoningTokens, cachedInputTokens }: SdkUsage): Usage {
  const input = typeof inputTokens === 'object' ? inputTokens : { total: inputTokens, cacheRead: cachedInputTokens }
  const output = typeof outputTokens === 'object' ? outputTokens : { total: outputTokens, reasoning: reasoningTokens }
  const figures = {
    inputTokens: input.total,
    cachedInputTokens: input.cacheRead,
    cacheWriteTokens: 'cacheWrite' in input ? input.cacheWrite : undefined,
    outputTokens: output.total,
    reasoningTokens: output.reasoning,
  }
  const known = Object.entries(figures).filter(([, figure]) => Number.isInteger(figure))
  return Object.fromEntries(known) as Usage
}

function reason(reason: string | { unified: string }): Exclude<FinishReason, 'cancelled'> {
  switch (typeof reason === 'string' ? reason : reason.unified) {
    case 'stop':
      return 'stop'
    case 'length':
      return 'length'
    case 'tool-calls':
      return 'tool_calls'
    case 'content-filter':
      return 'content_filter'
    default:
      return 'other'
  }
}

/** What an error of the SDK means to a caller. */
function failure(error: unknown): unknown {
  if (error instanceof TutorError || typeof error !== 'object' || error === null) return error
  const { statusCode: status, isRetryable, responseHeaders } = error as {
    statusCode?: unknown
    isRetryable?: unknown
    responseHeaders?: Record<string, string>
  }
  if (typeof status !== 'number') return error
  const seconds = Number(responseHeaders?.['retry-after'])
  const requestId = REQUEST_ID.map((name) => responseHeaders?.[name]).find((id) => id !== undefined)
  const [code, message] = meaning(status)
  return new Translated(code, message, {
    retryable: isRetryable === true,
    retryAfterMs: isRetryable === true && seconds > 0 ? seconds * 1000 : undefined,
    context: { status: `${status}`, ...(requestId === undefined ? {} : { requestId }) },
    cause: error,
  })
}

/** Headers in which providers say what they call a request. */
const REQUEST_ID = ['x-request-id', 'request-id', 'mistral-correlation-id', 'x-generation-id', 'apim-request-id']

function meaning(status: number): [ErrorCode, string] {
  if (status === 401 || status === 403) return ['provider_auth', 'the provider refused the key']
  if (status === 402) return ['provider_quota', "the provider's account has no credit left"]
  if (status === 429) return ['rate_limited', 'the provider asks to slow down']
  if (status < 500) return ['provider_rejected', 'the provider refused the request']
  return ['provider_unavailable', 'the provider cannot answer now']
}
