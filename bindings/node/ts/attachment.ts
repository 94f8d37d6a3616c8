import type { Stats } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Causes, TutorError } from './errors.js'
import { toJson } from './json.js'
import { native } from './native.js'
import { unwrap } from './reply.js'
import type { Content, Part, UploadedFile } from './types.js'

/** Nothing of a user's own runs where kinds of files are found out. */
const NONE = new Causes()

/** Bytes, in one of the forms that Node and the web have for them. */
export type Bytes = Uint8Array | ArrayBuffer | Blob

/**
 * An image or a file that is sent with a message: its bytes, the path or `file:` URL of where they are, the
 * `https:` URL of an image, which the provider fetches, or a file that was uploaded before. What kind it is, is seen from the bytes; a
 * `name` is shown with a file, that of a path or a `File` by default.
 */
export type Attachment =
  | Bytes
  | string
  | URL
  | { data: Bytes; name?: string | undefined }
  | { path: string | URL; name?: string | undefined }
  | UploadedFile

/**
 * A request as the engine reads it. Attachments become parts of the message, behind its text. They are
 * read here: what is larger than `limit` bytes is `too_large` before it is in memory.
 */
export async function asRequest(
  message: Content | undefined,
  options: { attachments?: readonly Attachment[] | undefined; [option: string]: unknown },
  limit: number,
): Promise<string> {
  const { attachments, ...rest } = options
  if (attachments === undefined || attachments === null) return toJson({ ...rest, message })
  if (!Array.isArray(attachments)) throw wrong('attachments is an array')
  const parts: Part[] = []
  for (const attachment of attachments as readonly Attachment[]) parts.push(await part(attachment, limit))
  const said: Part[] = typeof message === 'string' ? (message === '' ? [] : [{ type: 'text', text: message }]) : (message ?? [])
  return toJson({ ...rest, message: [...said, ...parts] })
}

async function part(attachment: Attachment, limit: number): Promise<Part> {
  if (isUploaded(attachment)) {
    const { id, name, mediaType } = attachment
    return { type: 'file', fileId: id, mediaType, ...(name === null ? {} : { name }) }
  }
  const named = isNamed(attachment) ? attachment : undefined
  const source = named === undefined ? attachment : 'data' in named ? named.data : named.path
  if (typeof source === 'string' || source instanceof URL) {
    const isUrl = source instanceof URL && source.protocol !== 'file:'
    if (isUrl) return { type: 'image', url: source.href }
    const path = source instanceof URL ? fileURLToPath(source) : source
    return toPart(await read(path, limit), named?.name ?? basename(path))
  }
  const bytes = await bytesOf(source as Bytes, limit)
  return toPart(bytes, named?.name ?? (source as { name?: unknown }).name)
}

function isUploaded(value: Attachment): value is UploadedFile {
  const { id, mediaType } = (value ?? {}) as Partial<UploadedFile>
  return typeof id === 'string' && typeof mediaType === 'string'
}

function isNamed(value: Attachment): value is { data: Bytes; name?: string } | { path: string | URL; name?: string } {
  if (typeof value !== 'object' || value === null || value instanceof URL) return false
  return 'data' in value || 'path' in value
}

async function bytesOf(source: Bytes, limit: number): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source
  if (source instanceof ArrayBuffer) return new Uint8Array(source)
  if (source instanceof Blob) {
    if (source.size > limit) throw tooLarge(limit)
    return new Uint8Array(await source.arrayBuffer())
  }
  throw wrong('an attachment is a Uint8Array, an ArrayBuffer, a Blob, a path, a URL, or { data, name } or { path, name }')
}

async function read(path: string, limit: number): Promise<Uint8Array> {
  let found: Stats
  try {
    // Before it is opened: opening a pipe waits for whoever writes into it.
    found = await stat(path)
    if (found.isFile() && found.size <= limit) return await readFile(path)
  } catch (cause) {
    throw unreadable(path, cause)
  }
  throw found.isFile() ? tooLarge(limit) : unreadable(path)
}

function unreadable(path: string, cause?: unknown): TutorError {
  return new TutorError('invalid_input', 'an attachment cannot be read: name a file that is there', {
    context: { field: 'attachments', path },
    cause,
  })
}

function toPart(bytes: Uint8Array, name: unknown): Part {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const outcome = native.NativeTutor.attachment(buffer, typeof name === 'string' && name !== '' ? name : undefined)
  return unwrap<Part>(outcome, NONE)
}

function tooLarge(limit: number): TutorError {
  return new TutorError('too_large', `an image or file has more than ${limit} bytes: send a smaller one`, {
    context: { field: 'attachments' },
  })
}

function wrong(message: string): TutorError {
  return new TutorError('invalid_input', message, { context: { field: 'attachments' } })
}
