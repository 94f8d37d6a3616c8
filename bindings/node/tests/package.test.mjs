// What is in the package, and what its documents say.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'node:test'

import * as esm from 'neuro-tutor'

import { directory, PACKAGE, run } from './support.mjs'

const ROOT = join(PACKAGE, '..', '..')

/** A directory of a user, who has installed this package. */
function project(t) {
  const path = directory(t)
  mkdirSync(join(path, 'node_modules'))
  symlinkSync(PACKAGE, join(path, 'node_modules', 'neuro-tutor'))
  return path
}

test('require and import give the same classes', () => {
  const cjs = createRequire(import.meta.url)('neuro-tutor')
  assert.ok(Object.keys(cjs).includes('Tutor'))
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort())
  for (const name of Object.keys(cjs)) assert.equal(esm[name], cjs[name])
})

test('no native method borrows an object that JavaScript may free', () => {
  const sources = join(PACKAGE, 'src')
  for (const name of readdirSync(sources)) {
    const methods = readFileSync(join(sources, name), 'utf8').replace(/^\s*\/\/.*$/gm, '').split('#[napi')
    for (const method of methods.slice(1)) {
      assert.doesNotMatch(method.split('{')[0], /async\s+(unsafe\s+)?fn[^(]*\([^)]*&/, name)
    }
  }
})

const STRICT = [
  ...['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--module', 'node20', '--target', 'es2022'],
  ...['--lib', 'es2023,esnext.disposable', '--types', 'node', '--typeRoots', join(PACKAGE, 'node_modules', '@types')],
]
const MODES = [['mts', 'import'], ['cts', 'require']]

for (const [extension, mode] of MODES) {
  test(`the types are those of the package, by ${mode}`, (t) => {
    const path = project(t)
    cpSync(join(PACKAGE, 'tests', 'types.mts'), join(path, `types.${extension}`))
    const done = spawnSync(join(PACKAGE, 'node_modules', '.bin', 'tsc'), [...STRICT, `types.${extension}`], { cwd: path, encoding: 'utf8' })
    assert.equal(done.status, 0, done.stdout)
  })
}

test('the types are read by the oldest TypeScript that is supported, in which this has one argument', () => {
  const dist = join(PACKAGE, 'dist')
  for (const name of readdirSync(dist).filter((name) => name.endsWith('.d.ts'))) {
    assert.doesNotMatch(readFileSync(join(dist, name), 'utf8'), /(?:IterableIterator|AsyncIterator)<[^<>]*,/, name)
  }
})

/** Runs a program in a directory, and gives what it printed. */
function sh(cwd, command, ...args) {
  const done = spawnSync(command, args, { cwd, encoding: 'utf8', env: { ...process.env, npm_config_loglevel: 'error' } })
  assert.equal(done.status, 0, `${command} ${args.join(' ')}\n${done.stdout}${done.stderr}`)
  return done.stdout
}

const { version: VERSION } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'))
const BIN = join(PACKAGE, 'node_modules', '.bin')

test('the packed package, with the binary of its platform, works where there is no Rust', async (t) => {
  const path = directory(t)
  const pack = (from) => join(path, JSON.parse(sh(from, 'npm', 'pack', '--json', '--ignore-scripts', '--pack-destination', path))[0].filename)
  const main = pack(PACKAGE)

  sh(path, join(BIN, 'publint'), '--strict', main)
  const types = JSON.parse(sh(path, join(BIN, 'attw'), '--format', 'json', '--profile', 'node16', main))
  assert.deepEqual(types.problems ?? types.analysis?.problems ?? {}, {})

  // The package of the platform, as a release makes it.
  const binary = readdirSync(join(PACKAGE, 'native')).find((name) => name.endsWith('.node'))
  const name = `@neuro-tutor/native-${binary.slice('neuro-tutor.'.length, -'.node'.length)}`
  const platform = join(path, 'platform')
  mkdirSync(platform)
  cpSync(join(PACKAGE, 'native', binary), join(platform, binary))
  writeFileSync(join(platform, 'package.json'), JSON.stringify({ name, version: VERSION, main: binary, files: [binary] }))
  const native = pack(platform)

  const user = join(path, 'user')
  mkdirSync(user)
  writeFileSync(join(user, 'package.json'), '{"private":true}')
  writeFileSync(join(user, 'use.mjs'), `
    import { Tutor } from 'neuro-tutor'
    const tutor = await Tutor.open('data')
    console.log((await tutor.chat('hi')).text)
    await tutor.close()`)
  sh(user, 'npm', 'install', '--offline', '--no-audit', '--no-fund', main)
  const without = await run('', { cwd: user, args: ['use.mjs'] })
  assert.equal(without.code, 1)
  assert.match(without.stderr, new RegExp(`cannot load its binary.*${name}`))
  const command = spawnSync(process.execPath, [join(user, 'node_modules', 'neuro-tutor', 'dist', 'bin.js'), '--version'], { encoding: 'utf8' })
  assert.equal(command.status, 1)
  assert.match(command.stderr, /^neuro-tutor: neuro-tutor cannot load its binary.*\n$/)
  sh(user, 'npm', 'install', '--offline', '--no-audit', '--no-fund', native)
  const { code, stdout, stderr } = await run('', { cwd: user, args: ['use.mjs'] })
  assert.equal(code, 0, stderr)
  assert.match(stdout, /demo/)
  assert.equal(sh(user, join(user, 'node_modules', '.bin', 'neuro-tutor'), '--version'), `neuro-tutor ${VERSION}\n`)
  assert.match(sh(user, 'npx', '--no-install', 'neuro-tutor', 'export', '--data', 'data'), /"content":"hi"/)
})

test('everything has one version, and every platform of a release its binary', () => {
  const read = (path) => readFileSync(join(ROOT, path), 'utf8')
  const { version, napi } = JSON.parse(read('bindings/node/package.json'))
  const cargo = read('Cargo.toml')
  assert.equal(/^\[workspace\.package\]\nversion = "(.*)"/m.exec(cargo)[1], version)
  for (const [, dependency] of cargo.matchAll(/^tutor-\w+ = \{ path = .*version = "(.*?)"/gm)) assert.equal(dependency, version)
  const lock = JSON.parse(read('bindings/node/package-lock.json'))
  assert.deepEqual([lock.version, lock.packages[''].version], [version, version])
  const released = [...read('.github/workflows/release-npm.yml').matchAll(/\{ target: (\S+),/g)].map(([, target]) => target)
  assert.deepEqual(released, napi.targets)
})

test('a platform without a binary is told what to do', async () => {
  const { stderr } = await run(`
    Object.defineProperty(process, 'arch', { value: 'mips' })
    await import('neuro-tutor')`)
  assert.match(stderr, /no binary for linux-mips-gnu.*Rust/)
})

/** What the README shows in a language. */
function snippets(language) {
  const text = readFileSync(join(PACKAGE, 'README.md'), 'utf8')
  const blocks = [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm'))].map(([, source]) => source)
  assert.ok(blocks.length > 0)
  return blocks
}

test('every example of the README is strict TypeScript too', (t) => {
  const path = project(t)
  const sources = [...snippets('js'), ...snippets('ts')]
  const names = sources.map((source, index) => {
    const name = `example${index}.mts`
    writeFileSync(join(path, name), source)
    return name
  })
  const done = spawnSync(join(PACKAGE, 'node_modules', '.bin', 'tsc'), [...STRICT, ...names], { cwd: path, encoding: 'utf8' })
  assert.equal(done.status, 0, done.stdout)
})

test('every example of the README runs', async (t) => {
  const blocks = snippets('js')
  for (const source of blocks) {
    const path = project(t)
    writeFileSync(join(path, 'example.mjs'), source)
    const { code, stderr } = await run('', { cwd: path, args: ['example.mjs'] })
    assert.equal(code, 0, `${source}\n${stderr}`)
  }
})

for (const name of readdirSync(join(ROOT, 'examples', 'node')).filter((name) => name.endsWith('.mjs'))) {
  test(`the example ${name} runs`, async (t) => {
    const path = project(t)
    cpSync(join(ROOT, 'examples', 'node', name), join(path, name))
    const { code, stdout, stderr } = await run('', { cwd: path, args: [name] })
    assert.equal(code, 0, stderr)
    assert.ok(stdout.length > 20, stdout)
  })
}
