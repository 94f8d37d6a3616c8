import { TutorError } from './errors.js'
import { snakeName } from './spelling.js'
import type { Called } from './tool.js'

/** A value that is JSON. Objects that stores are given have the members that the guide lists. */
type Document = any

/**
 * A store of your own: where conversations are kept. Methods take and give JSON, as the guide "Writing a
 * store" lists it: sessions, messages and turns are documents in the engine's spelling (`updated_at`), to
 * be kept as they are. They may return promises. `checkStore` of `neuro-tutor/testing` tells whether it
 * keeps the laws.
 *
 * Refuse with a {@link TutorError} (`conflict`, `not_found`, `store_unavailable`), with the facts that the
 * guide asks for in its `context`.
 */
export interface Store {
  /** What it is called, for people. */
  readonly name?: string | undefined
  /** Where the data is, without credentials; for people. */
  readonly location?: string | undefined
  /** What an acknowledged write survives: the end of the process by default. */
  readonly durability?: 'none' | 'process' | 'power' | undefined
  /** True if nobody else can use the data meanwhile. */
  readonly exclusive?: boolean | undefined
  createSession(session: Document): unknown
  session(key: Document): unknown
  sessions(query: Document): unknown
  updateSession(key: Document, patch: Document): unknown
  deleteSession(key: Document): unknown
  messages(query: Document): unknown
  deleteMessage(key: Document, cut: Document): unknown
  beginTurn(turn: Document): unknown
  checkpointTurn(key: Document, checkpoint: Document): unknown
  finishTurn(key: Document, end: Document): unknown
  turn(key: Document): unknown
  turnByKey(owner: string, idempotencyKey: string): unknown
  runningTurns(): unknown
  owners(after: string | null, limit: number): unknown
  sessionIds(owner: string, after: string | null, limit: number): unknown
  wholeSession(key: Document): unknown
  importSession(whole: Document, existing: 'refuse' | 'replace'): unknown
  turns(session: Document, after: string | null, limit: number): unknown
  /** The four methods of records may be missing together. */
  get?(kind: string, key: string): unknown
  kinds?(): unknown
  scan?(kind: string, range: Document, limit: number): unknown
  commit?(writes: Document[]): unknown
  check?(): unknown
  close?(): unknown
}

const METHODS = [
  'createSession', 'session', 'sessions', 'updateSession', 'deleteSession', 'messages', 'deleteMessage',
  'beginTurn', 'checkpointTurn', 'finishTurn', 'turn', 'turnByKey', 'runningTurns', 'owners', 'sessionIds',
  'wholeSession', 'importSession', 'turns', 'get', 'kinds', 'scan', 'commit', 'check', 'close',
] as const

/** The methods by their names in the engine. */
const BY_NAME = new Map<string, keyof Store>(METHODS.map((name) => [snakeName(name), name]))

/** True for an object that is meant to be a store. */
export function isStore(value: unknown): value is Store {
  return typeof value === 'object' && value !== null && !(value instanceof URL)
}

/** A store as the engine is told of it. */
export function describeStore(store: Store): object {
  const { name, location, durability, exclusive } = store
  const has = METHODS.filter((method) => typeof store[method] === 'function')
  return { name, location, durability, exclusive, methods: has.map(snakeName) }
}

/** The store as the engine calls it. */
export function asStore(store: Store): Called {
  return (told) => {
    const { method, arguments: args } = told as { method: string; arguments: unknown[] }
    const name = BY_NAME.get(method)
    if (name === undefined) throw new TutorError('internal', 'a store has no such method')
    return (store[name] as (...args: unknown[]) => unknown).apply(store, args)
  }
}
