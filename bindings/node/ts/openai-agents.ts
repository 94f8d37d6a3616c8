/**
 * Conversations of the OpenAI Agents SDK, kept by a tutor's store.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'

import { TutorError } from './errors.js'
import type { Tutor } from './tutor.js'

/** A change of a history, as the SDK describes it. */
export type HistoryTransaction<Item> =
  | { type: 'append_items'; items: Item[] }
  | { type: 'replace_suffix'; expectedSuffix: Item[]; replacement: Item[] }

/** How often a history is read again that was changed while it was being rewritten. */
const MAX_ATTEMPTS = 8

/** The only member of an object that stands for bytes. */
const BYTES = '$bytes'

/**
 * A `Session` of the OpenAI Agents SDK (`@openai/agents`): the items of a conversation, durable in whatever
 * store the tutor has, the owner's alone, and exported and erased with what else is theirs. Items come back
 * exactly as they were added, and changes are made whole, once, or not at all.
 *
 * @example
 * ```ts
 * import { Agent, run } from '@openai/agents'
 * import { Tutor } from 'neuro-tutor'
 * import { TutorSession } from 'neuro-tutor/openai-agents'
 *
 * const tutor = await Tutor.open('data')
 * const session = new TutorSession(tutor, 'algebra')
 * await run(new Agent({ name: 'Tutor' }), 'What is a group?', { session })
 * ```
 */
// The items are the SDK's own business: its types fit whatever release is used.
export class TutorSession<Item extends object = any> {
  readonly #tutor: Tutor
  readonly #id: string

  /** The conversation of this id; a new one if absent. */
  constructor(tutor: Tutor, sessionId: string = randomUUID()) {
    this.#tutor = tutor
    this.#id = sessionId
  }

  /** The conversation's id. */
  async getSessionId(): Promise<string> {
    return this.#id
  }

  /** The newest `limit` items, or all, oldest first. */
  async getItems(limit?: number): Promise<Item[]> {
    if (limit !== undefined && !(limit > 0)) return []
    const newest = limit === undefined ? undefined : Math.min(Math.ceil(limit), 0xffff_ffff)
    const items = await this.#tutor.items(this.#id).latest(newest)
    return items.map((item) => decode<Item>(item))
  }

  /** Appends items, all or none. */
  async addItems(items: Item[]): Promise<void> {
    if (items.length > 0) await this.#tutor.items(this.#id).append(items.map(encode))
  }

  /** Removes the newest item and gives it; undefined if there is none. */
  async popItem(): Promise<Item | undefined> {
    const item = await this.#tutor.items(this.#id).pop()
    return item === null ? undefined : decode<Item>(item)
  }

  /** Removes all items. */
  async clearSession(): Promise<void> {
    await this.#tutor.items(this.#id).clear()
  }

  /** Makes a change whole, and once under its id, however often it is asked for. */
  async applyHistoryTransaction(args: {
    operationId: string
    transaction: HistoryTransaction<Item>
  }): Promise<void> {
    const { operationId, transaction } = args
    if (typeof operationId !== 'string') throw new TutorError('invalid_input', 'operationId is a string')
    const append = transaction.type === 'append_items'
    const expected = append ? [] : transaction.expectedSuffix.map(encode)
    const replacement = (append ? transaction.items : transaction.replacement).map(encode)
    await this.#tutor.items(this.#id).replaceEnd(operationId, expected, replacement)
  }

  /** Rewrites stored calls: the first of an id becomes the replacement, the others of it go. */
  async applyHistoryMutations(args: {
    mutations: { type: 'replace_function_call'; callId: string; replacement: Item }[]
  }): Promise<void> {
    if (args.mutations.length === 0) return
    await this.#rewrite((items) => args.mutations.reduce(replaceCall, items))
  }

  /** Replaces all items, in one step. */
  async replaceHistoryWithCompaction(items: Item[]): Promise<void> {
    await this.#rewrite(() => items)
  }

  async #rewrite(change: (items: Item[]) => Item[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const before = await this.getItems()
      const after = change(before).map(encode)
      const stored = before.map(encode)
      const same = stored.findIndex((item, index) => item !== after[index])
      const kept = same < 0 ? Math.min(stored.length, after.length) : same
      try {
        return await this.#tutor.items(this.#id).replaceEnd(undefined, stored.slice(kept), after.slice(kept))
      } catch (error) {
        const changed = error instanceof TutorError && error.code === 'conflict'
        if (!changed || attempt === MAX_ATTEMPTS) throw error
      }
    }
  }
}

type Call = { type?: unknown; callId?: unknown }

function replaceCall<Item extends object>(
  items: Item[],
  { callId, replacement }: { callId: string; replacement: Item },
): Item[] {
  const isCall = (item: Call): boolean => item.type === 'function_call' && item.callId === callId
  const first = items.findIndex((item) => isCall(item))
  return items.flatMap((item, index) => (!isCall(item) ? [item] : index === first ? [replacement] : []))
}

/** An item as JSON. Bytes, which JSON cannot say, are an object with one member of a reserved name. */
function encode(item: object): string {
  const wrong = (cause?: unknown) => new TutorError('invalid_input', 'an item is an object of plain values and bytes', { cause })
  let json: string | undefined
  try {
    json = JSON.stringify(item, function (this: Record<string, unknown>, name, value: unknown) {
      const original = this[name]
      if (original instanceof Uint8Array) return { [BYTES]: Buffer.from(original).toString('base64') }
      return typeof value === 'string' ? value.toWellFormed() : value
    })
  } catch (cause) {
    throw wrong(cause)
  }
  if (json === undefined) throw wrong()
  return json
}

function decode<Item>(json: string): Item {
  return JSON.parse(json, (_, value: unknown) => {
    if (typeof value !== 'object' || value === null) return value
    const { [BYTES]: bytes, ...rest } = value as { [BYTES]?: unknown }
    if (typeof bytes !== 'string' || Object.keys(rest).length > 0) return value
    return new Uint8Array(Buffer.from(bytes, 'base64'))
  }) as Item
}
