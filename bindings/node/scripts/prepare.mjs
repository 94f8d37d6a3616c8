// Runs on `npm install` in this folder, on `npm install PATH-TO-IT` and for git dependencies; never
// for the published package, which brings its binaries along.
//
// `npm install PATH-TO-IT` links the folder without installing its development dependencies.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const cwd = fileURLToPath(new URL('..', import.meta.url))
// What the outer npm was told is not meant for these.
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^npm_(config_(local_prefix|prefix|global|save|dry)|package|lifecycle|command)/.test(name),
  ),
)

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd, env, stdio: 'inherit', shell: process.platform === 'win32' })
  if (error?.code === 'ENOENT') fail(`${command} was not found`)
  if (status !== 0) fail(`\`${[command, ...args].join(' ')}\` failed`)
}

function fail(what) {
  console.error(`neuro-tutor cannot be built here: ${what}.`)
  console.error('Building it from source takes Rust (https://rustup.rs) and a C compiler. The published package needs neither.')
  process.exit(1)
}

run('cargo', '--version')
if (!existsSync(new URL('../node_modules/.bin/tsc', import.meta.url))) {
  run('npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund')
}
run('npm', 'run', 'build')
