import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { Bytes } from './attachment.js'
import { checkedOptions, knownOptions } from './checked.js'
import { type Causes, fromNative, TutorError } from './errors.js'
import { toJson } from './json.js'
import type { NativeFiles, Outcome } from './native.js'
import { unwrap } from './reply.js'
import type { Page, UploadedFile } from './types.js'

/** What can be uploaded: bytes, the path or `file:` URL of a file, or a stream of pieces. */
export type Upload = Bytes | string | URL | AsyncIterable<Uint8Array> | Iterable<Uint8Array>

/**
 * The uploaded files of one owner: images (PNG, JPEG, GIF, WebP), PDFs and texts in UTF-8. Messages name
 * them: `attachments: [file]`. A model is shown images, and the text of texts and PDFs.
 */
export class Files {
  readonly #native: NativeFiles
  readonly #causes: Causes

  /** @internal */
  constructor(native: NativeFiles, causes: Causes) {
    this.#native = native
    this.#causes = causes
  }

  /**
   * Keeps a file. Durable when it resolves. `name` is by default that of the path or of the `File`; of a
   * path the last part counts.
   *
   * @example
   * ```ts
   * const file = await tutor.files.upload('leaves.txt')
   * await tutor.chat('What do they have in common?', { attachments: [file] })
   * ```
   *
   * Fails with `too_large` for a file, or for more than an owner may have; `invalid_input` if it is empty,
   * of no type that is taken, not what its name says, or cannot be read; `rate_limited` if it does not fit
   * into the day's quota; `config` if nobody said where files are kept; and errors of the store.
   */
  async upload(file: Upload, options: { name?: string | undefined } = {}): Promise<UploadedFile> {
    const { name } = knownOptions('file', options, { name: true })
    const path = file instanceof URL ? local(file) : file
    const given = name ?? (typeof path === 'string' ? basename(path) : (file as { name?: unknown })?.name)
    const upload = this.#native.upload(typeof given === 'string' ? given.toWellFormed() : undefined)
    try {
      for await (const piece of pieces(path)) await this.#result(upload.write(toBuffer(piece)))
      return await this.#result(upload.finish())
    } catch (error) {
      await upload.abort()
      if (typeof path === 'string' && !(error instanceof TutorError)) {
        throw new TutorError('invalid_input', 'a file cannot be read: name one that is there', { context: { path }, cause: error })
      }
      throw error
    }
  }

  /** A page of files, in the order of their uploads. `limit` is 1 to 200, 50 by default. */
  async list(options: { limit?: number | undefined; cursor?: string | null | undefined } = {}): Promise<Page<UploadedFile>> {
    return this.#result(this.#native.list(toJson(checkedOptions(options))))
  }

  /** What a file is. Fails with `not_found`. */
  async get(id: string): Promise<UploadedFile> {
    return this.#result(this.#native.info(checked(id)))
  }

  /** The bytes of a file. Fails with `not_found`. */
  async read(id: string): Promise<Uint8Array> {
    const { bytes, error } = await this.#native.read(checked(id))
    if (error !== undefined && error !== null) throw fromNative(error, this.#causes)
    return bytes ?? new Uint8Array()
  }

  /** Deletes a file; messages that name it stay. False if there was none. */
  async delete(id: string): Promise<boolean> {
    return this.#result(this.#native.delete(checked(id)))
  }

  async #result<T>(outcome: Promise<Outcome>): Promise<T> {
    return unwrap(await outcome, this.#causes)
  }
}

function checked(id: string): string {
  if (typeof id === 'string') return id
  throw new TutorError('invalid_input', 'id is a string: the id of an uploaded file', { context: { field: 'id' } })
}

function local(url: URL): string {
  if (url.protocol === 'file:') return fileURLToPath(url)
  throw new TutorError('invalid_input', 'a file is not fetched: give its bytes, such as the body of a response', {
    context: { field: 'file' },
  })
}

function pieces(file: Exclude<Upload, URL>): AsyncIterable<unknown> | Iterable<unknown> {
  if (typeof file === 'string') return createReadStream(file)
  if (file instanceof Uint8Array || file instanceof ArrayBuffer) return [file]
  if (file instanceof Blob) return file.stream()
  if (typeof file === 'object' && file !== null && (Symbol.asyncIterator in file || Symbol.iterator in file)) return file
  throw wrong()
}

function toBuffer(piece: unknown): Buffer {
  if (typeof piece === 'string') return Buffer.from(piece)
  if (piece instanceof ArrayBuffer) return Buffer.from(piece)
  if (piece instanceof Uint8Array) return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
  throw wrong()
}

function wrong(): TutorError {
  return new TutorError('invalid_input', 'a file is a Uint8Array, an ArrayBuffer, a Blob, a path, or a stream of bytes', {
    context: { field: 'file' },
  })
}
