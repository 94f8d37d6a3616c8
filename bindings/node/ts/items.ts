import type { Causes } from './errors.js'
import type { NativeItems, Outcome } from './native.js'
import { unwrap } from './reply.js'

/** A list of JSON texts under a name, which the engine keeps for another library. */
export class Items {
  readonly #native: NativeItems
  readonly #causes: Causes

  constructor(native: NativeItems, causes: Causes) {
    this.#native = native
    this.#causes = causes
  }

  /** The newest ones, or all, oldest first. */
  latest(limit?: number): Promise<string[]> {
    return this.#result(this.#native.latest(limit))
  }

  append(items: string[]): Promise<void> {
    return this.#result(this.#native.append(items))
  }

  /** Removes the newest one; null if there is none. */
  pop(): Promise<string | null> {
    return this.#result(this.#native.pop())
  }

  clear(): Promise<void> {
    return this.#result(this.#native.clear())
  }

  /** Replaces the end, which must be `expected`; under a name once. `conflict` if it cannot. */
  replaceEnd(operation: string | undefined, expected: string[], replacement: string[]): Promise<void> {
    return this.#result(this.#native.replaceEnd(operation, expected, replacement))
  }

  async #result<T>(outcome: Promise<Outcome>): Promise<T> {
    return unwrap(await outcome, this.#causes)
  }
}
