import type { Names } from './checked.js'
import type { Causes } from './errors.js'
import type { NativeServer } from './native.js'
import { unwrap } from './reply.js'

const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? (Symbol.for('nodejs.asyncDispose') as typeof Symbol.asyncDispose)

/** How a server listens. */
export interface ServeOptions {
  /** `127.0.0.1` by default. */
  host?: string | undefined
  /** 8000 by default; 0 for any that is free. */
  port?: number | undefined
  /** Pages that may call the server from a browser; `http://localhost:5173` and `:5180` by default. */
  corsOrigins?: readonly string[] | undefined
}

/** The names of all these options. */
export const SERVING: Names<ServeOptions> = { host: true, port: true, corsOrigins: true }

/** An HTTP server that listens, and keeps the process alive until it is stopped. */
export class Server {
  readonly #native: NativeServer
  /** Where it listens, such as `http://127.0.0.1:8000`. */
  readonly url: string
  /** Resolves when it has stopped. */
  readonly stopped: Promise<void>

  /** @internal */
  constructor(native: NativeServer, address: { host: string; port: number }, causes: Causes) {
    this.#native = native
    const { host, port } = address
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`
    // Also what keeps the process alive.
    this.stopped = native.wait().then((outcome) => unwrap(outcome, causes))
  }

  /** Takes no new connection, and waits for the requests that run, some seconds at most. Idempotent. */
  async stop(): Promise<void> {
    this.#native.stop()
    await this.stopped
  }

  async [asyncDispose](): Promise<void> {
    await this.stop()
  }
}
