import type { NativeError } from './native.js'
import { camelName, optionMessage, optionName, snakeName } from './spelling.js'

/**
 * What went wrong, as coarse as a caller can act on it. The same strings in every language and in
 * the HTTP API.
 */
export type ErrorCode =
  /** The request is wrong: change it. */
  | 'invalid_input'
  /** The named session, message or turn does not exist, or belongs to somebody else. */
  | 'not_found'
  /** The request contradicts what is stored: read again, then decide. */
  | 'conflict'
  /** A size limit was exceeded. */
  | 'too_large'
  /** The conversation does not fit the model's context window: shorten it. */
  | 'context_too_long'
  /** Credentials are missing or wrong. */
  | 'unauthorized'
  /** The caller may not do this. */
  | 'forbidden'
  /** Too many requests: wait. */
  | 'rate_limited'
  /** As many turns run as may: come back in a moment. */
  | 'overloaded'
  /** The provider refused the credentials. */
  | 'provider_auth'
  /** The provider's account has no credit left. */
  | 'provider_quota'
  /** The provider refused the request itself. */
  | 'provider_rejected'
  /** The provider cannot be reached, is overloaded, failed, or answered nonsense. */
  | 'provider_unavailable'
  /** A time limit was exceeded. */
  | 'timeout'
  /** The reply was cut off; what arrived is kept. Ask again. */
  | 'interrupted'
  /** Another process owns the store. */
  | 'store_locked'
  /** The store cannot be read or written. */
  | 'store_unavailable'
  /** The store holds something that cannot be understood: stop, and restore a backup. */
  | 'data_corrupt'
  /** The configuration is wrong. */
  | 'config'
  /** A bug in the engine: report it. */
  | 'internal'

/** What a {@link TutorError} is made of, besides its code and its message. */
export interface TutorErrorOptions {
  /** Whether the same request may succeed later. False by default. */
  retryable?: boolean | undefined
  /** How long to wait before trying again, in milliseconds. */
  retryAfterMs?: number | undefined
  /**
   * Short facts: ids, a status, the name of a field. Of those of a provider or a store the engine takes the ones
   * that it knows: `requestId`, `status`, `field`, `reason`, and what the guides ask for.
   */
  context?: Readonly<Record<string, string>> | undefined
  /** What caused this. */
  cause?: unknown
}

/**
 * Everything that this package fails with. Compare `code`, not the text: messages are for people
 * and may change.
 *
 * A provider of your own may throw one to say what happened, and whether trying again can help.
 *
 * @example
 * ```ts
 * try {
 *   await tutor.chat('Why?', { session })
 * } catch (error) {
 *   if (error instanceof TutorError && error.retryable) await wait(error.retryAfterMs ?? 1000)
 *   else throw error
 * }
 * ```
 */
export class TutorError extends Error {
  override readonly name = 'TutorError'
  /** What went wrong. */
  readonly code: ErrorCode
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  /** How long to wait before trying again, in milliseconds, if somebody said so. */
  readonly retryAfterMs: number | undefined
  /** Short facts: the ids of `turn` and `session`, the `field` that is wrong, the `provider`. */
  readonly context: Readonly<Record<string, string>>

  /** What the provider calls the request that failed, if it said so: for its support. */
  get requestId(): string | undefined {
    return this.context['requestId']
  }

  constructor(code: ErrorCode, message: string, options: TutorErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryable = options.retryable ?? false
    this.retryAfterMs = options.retryAfterMs
    this.context = options.context ?? {}
  }
}

/**
 * What an exception of another library means: what a provider around it throws in its place. A caller gets
 * that very exception as the `cause`, not this.
 *
 * @internal
 */
export class Translated extends TutorError {}

/** Exceptions that are kept at a time. One that no error has brought back by then never will. */
const MAX_CAUSES = 256

/** Exceptions of a user's own code, while the engine deals with the failure. */
export class Causes {
  readonly #kept = new Map<number, unknown>()
  #last = 0

  /** Keeps an exception, under a number. */
  keep(thrown: unknown): number {
    this.#last = (this.#last + 1) >>> 0
    this.#kept.set(this.#last, thrown instanceof Translated ? thrown.cause : thrown)
    if (this.#kept.size > MAX_CAUSES) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest)
        break
      }
    }
    return this.#last
  }

  /** The exception of this number. It may be asked for again: several may wait for one turn. */
  of(number: number): unknown {
    return this.#kept.get(number)
  }
}

/** An error as the engine writes it. */
interface PlainError {
  code: ErrorCode
  message: string
  retryable: boolean
  retry_after_ms?: number
  context: Record<string, string>
}

/** Facts that are names of this package's, which the engine spells in its own way. */
const NAMES: ReadonlySet<string> = new Set(['field', 'method', 'missing'])

/** The error that the engine wrote. */
export function fromNative(error: NativeError, causes: Causes): TutorError {
  const plain = JSON.parse(error.json) as PlainError
  const context: Record<string, string> = {}
  for (const [name, value] of Object.entries(plain.context)) {
    context[camelName(name)] = NAMES.has(name) ? optionName(value) : value
  }
  const { field } = plain.context
  const message = field === undefined ? plain.message : optionMessage(plain.message, field)
  return new TutorError(plain.code, message, {
    retryable: plain.retryable,
    retryAfterMs: plain.retry_after_ms,
    context,
    cause: error.cause === undefined || error.cause === null ? undefined : causes.of(error.cause),
  })
}

/**
 * What the engine is told of an exception: all of it if it is ours, else nothing. Never throws, whatever
 * somebody made of the exception.
 */
export function toNative(error: unknown): string | undefined {
  try {
    if (!(error instanceof TutorError)) return undefined
    const { code, message, retryable, retryAfterMs, context } = error
    const wait = typeof retryAfterMs === 'number' ? Math.max(0, Math.ceil(retryAfterMs)) : NaN
    return JSON.stringify({
      code,
      message: String(message).toWellFormed(),
      retryable: retryable === true,
      retry_after_ms: Number.isSafeInteger(wait) ? wait : undefined,
      context: facts(context),
    })
  } catch {
    return undefined
  }
}

/** The facts of an exception in the engine's spelling; of two of one name the first one. */
function facts(context: Readonly<Record<string, unknown>>): Record<string, string | number> {
  const facts: Record<string, string | number> = {}
  for (const [name, value] of Object.entries(context ?? {})) {
    if (typeof value === 'string') facts[snakeName(name).toWellFormed()] ??= value.toWellFormed()
    else if (typeof value === 'number') facts[snakeName(name).toWellFormed()] ??= value
  }
  return facts
}
