import { existsSync } from 'node:fs'
import { join } from 'node:path'

import type * as Native from '../native/native.js'

export type {
  Answer,
  Batch,
  ChatCall,
  NativeError,
  NativeFiles,
  NativeItems,
  NativeServer,
  NativeStream,
  NativeTutor,
  NativeUpload,
  Outcome,
  Sink,
} from '../native/native.js'

/** The platforms for which binaries are published, as they are named there. */
const PUBLISHED = [
  'linux-x64-gnu',
  'linux-arm64-gnu',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
]

/** What this machine is called. */
function platform(): string {
  const { platform, arch } = process
  if (platform === 'win32') return `win32-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  // Only a process that runs on glibc reports its version.
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  return `linux-${arch}-${header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** The binary that was built here, or the one of the package for this platform. */
function load(): typeof Native {
  const name = platform()
  const built = join(__dirname, '..', 'native', `neuro-tutor.${name}.node`)
  const published = `@neuro-tutor/native-${name}`
  try {
    return require(existsSync(built) ? built : published) as typeof Native
  } catch (cause) {
    const known = PUBLISHED.includes(name)
    throw new Error(
      known
        ? `neuro-tutor cannot load its binary for ${name}. Install it again with optional dependencies ` +
            `(npm install neuro-tutor --include=optional); the missing package is ${published}.`
        : `neuro-tutor has no binary for ${name}; there are binaries for ${PUBLISHED.join(', ')}. ` +
            'To build one, install Rust (https://rustup.rs), get the sources, and run ' +
            '`npm install ./bindings/node`.',
      { cause },
    )
  }
}

/** The native half of this package. */
export const native = load()
