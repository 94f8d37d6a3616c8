/**
 * For the tests of those who use this package: a provider that plays a script, and the laws that
 * providers and stores of one's own have to keep.
 *
 * @packageDocumentation
 */
import { Causes, TutorError } from './errors.js'
import { native, type Outcome } from './native.js'
import { type CompletionRequest, type Delta, describeProvider, type Provider, Providers } from './provider.js'
import { unwrap } from './reply.js'
import { asStore, describeStore, type Store } from './store.js'
import { Functions } from './tool.js'

/** A step of a script: what a provider may yield; an error, which is thrown; a promise, which is waited for. */
export type Step = Delta | Error | PromiseLike<unknown>

/**
 * A provider that plays scripts: each request takes the next one, the last one is repeated.
 *
 * @example
 * ```ts
 * const provider = new ScriptedProvider('Hello!', ['Hel', new TutorError('rate_limited', 'slow down')])
 * const tutor = await Tutor.open('memory:', { providers: [provider] })
 * assert.equal((await tutor.chat('Hi')).text, 'Hello!')
 * assert.equal(provider.requests[0].messages[0].content, 'Hi')
 * ```
 */
export class ScriptedProvider implements Provider {
  readonly name = 'scripted'
  readonly model = 'script'
  /** The requests that it was sent, in order. */
  readonly requests: CompletionRequest[] = []
  #scripts: (string | readonly Step[])[]

  constructor(...scripts: (string | readonly Step[])[]) {
    this.#scripts = scripts
  }

  /** Replaces the scripts that were not played yet. */
  say(...scripts: (string | readonly Step[])[]): void {
    this.#scripts = scripts
  }

  async *stream(request: CompletionRequest, { signal }: { signal: AbortSignal }): AsyncGenerator<Delta> {
    this.requests.push(request)
    const script = (this.#scripts.length > 1 ? this.#scripts.shift() : this.#scripts[0]) ?? 'This is a scripted reply.'
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    for (const step of typeof script === 'string' ? [script] : script) {
      if (step instanceof Error) throw step
      if (isPromise(step)) await Promise.race([step, aborted])
      else yield step
      if (signal.aborted) return
    }
  }
}

function isPromise(step: unknown): step is PromiseLike<unknown> {
  return typeof (step as { then?: unknown } | undefined)?.then === 'function'
}

/** A law: what it says, and whether one that nobody has used yet keeps it. */
export interface Law {
  readonly name: string
  /** Rejects, with how it is broken, if it is. */
  check(): Promise<void>
}

/** Makes a fresh one; what was made for a law is given to `done` after it. */
export interface Making<T> {
  /** Cleans up after a law. */
  done?: ((made: T) => unknown) | undefined
}

/**
 * The laws that a provider has to keep, to make a test of each. `make` gives one that nobody has used yet.
 *
 * @example
 * ```ts
 * for (const law of providerLaws(() => myProvider)) test(law.name, () => law.check())
 * ```
 */
export function providerLaws(make: () => Provider | Promise<Provider>, options: Making<Provider> = {}): Law[] {
  return native.NativeLaws.names('provider').map((name) => ({
    name,
    check: () =>
      checked(make, options, (provider, causes) => {
        const runner = new Providers(causes)
        runner.add(provider)
        const functions = new Functions([], causes)
        const described = JSON.stringify(describeProvider(provider))
        return native.NativeLaws.check('provider', name, described, runner.start, functions.ask, runner.cancel, functions.forget)
      }),
  }))
}

/**
 * The laws that a store has to keep, to make a test of each. `make` gives an empty one. A store without the
 * methods of records has none of their laws to keep: `records` is false then.
 */
export function storeLaws(
  make: () => Store | Promise<Store>,
  options: Making<Store> & { records?: boolean | undefined } = {},
): Law[] {
  const of = options.records === false ? ['store'] : ['store', 'records']
  return of.flatMap((of) =>
    native.NativeLaws.names(of).map((name) => ({
      name,
      check: () =>
        checked(make, options, (store, causes) => {
          const functions = new Functions([asStore(store)], causes)
          const described = JSON.stringify(describeStore(store))
          return native.NativeLaws.check(of, name, described, () => {}, functions.ask, functions.cancel, functions.forget)
        }),
    })),
  )
}

/** Checks all laws of a provider; rejects with those that are broken. */
export function checkProvider(make: () => Provider | Promise<Provider>, options: Making<Provider> = {}): Promise<void> {
  return all(providerLaws(make, options))
}

/** Checks all laws of a store; rejects with those that are broken. */
export function checkStore(
  make: () => Store | Promise<Store>,
  options: Making<Store> & { records?: boolean | undefined } = {},
): Promise<void> {
  return all(storeLaws(make, options))
}

async function checked<T>(
  make: () => T | Promise<T>,
  { done }: Making<T>,
  check: (made: T, causes: Causes) => Promise<Outcome>,
): Promise<void> {
  const made = await make()
  const causes = new Causes()
  try {
    const broken = unwrap<string | null>(await check(made, causes), causes)
    if (broken !== null) throw new Error(broken)
  } finally {
    await done?.(made)
  }
}

async function all(laws: Law[]): Promise<void> {
  const broken: Error[] = []
  for (const { name, check } of laws) {
    try {
      await check()
    } catch (cause) {
      if (cause instanceof TutorError) throw cause
      broken.push(new Error(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }))
    }
  }
  if (broken.length === 0) return
  const list = broken.map(({ message }) => `\n- ${message}`).join('')
  throw new AggregateError(broken, `${broken.length} of ${laws.length} laws are broken:${list}`)
}
