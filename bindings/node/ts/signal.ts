// `AbortSignal`s: what they throw, and one listener for all calls that share one.
import { TutorError } from './errors.js'

/** What an aborted call rejects with, when its signal has a reason of its own: that is the cause. */
class AbortError extends Error {
  override readonly name = 'AbortError'
  readonly code = 'ABORT_ERR'
}

/** The error of an aborted signal: its reason if that is an `AbortError`, else one around it. */
export function abortError({ reason }: AbortSignal): unknown {
  if ((reason as { name?: unknown } | undefined)?.name === 'AbortError') return reason
  return new AbortError('The operation was aborted', { cause: reason })
}

/** Throws if the signal is aborted, or is none. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || signal === null) return
  if (typeof signal.addEventListener !== 'function') {
    throw new TutorError('invalid_input', 'signal is an AbortSignal', { context: { field: 'signal' } })
  }
  if (signal.aborted) throw abortError(signal)
}

/** What is to be done when a signal is aborted: for all calls that it was given to. */
interface Waiting {
  readonly acts: Set<() => void>
  readonly listener: () => void
}

const waiting = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls `act` when the signal is aborted, until what this gives is called.
 *
 * However many calls share a signal, it has one listener: Node takes more than ten of them for a leak.
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal === undefined || signal === null) return () => {}
  let shared = waiting.get(signal)
  if (shared === undefined) {
    const acts = new Set<() => void>()
    shared = { acts, listener: () => acts.forEach((act) => act()) }
    waiting.set(signal, shared)
    signal.addEventListener('abort', shared.listener, { once: true })
  }
  const { acts, listener } = shared
  acts.add(act)
  return () => {
    if (!acts.delete(act) || acts.size > 0) return
    waiting.delete(signal)
    signal.removeEventListener('abort', listener)
  }
}
