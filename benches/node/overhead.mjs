// What the package costs beside what Node itself costs, as ratios of one run. `npm run bench` in bindings/node, built with `npm run build`.
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGE = fileURLToPath(new URL('../../bindings/node/', import.meta.url))
const { Tutor } = createRequire(join(PACKAGE, 'package.json'))('neuro-tutor')

const EVENTS = 20_000
const text = Array.from({ length: EVENTS }, (_, i) => ({ type: 'text.delta', text: `word ${i} ` }))
// The engine may be ahead of the reader, so that reading is what is measured.
const ready = { name: 'ready', async *stream() { yield* text } }

const tutor = await Tutor.open('memory:', { providers: [ready, { name: 'short', stream: () => ['hi'] }] })

/** The best of some runs, in microseconds per step. */
async function best(steps, work, rounds = 5) {
  let least = Infinity
  for (let round = 0; round < rounds; round++) {
    const start = process.hrtime.bigint()
    await work()
    least = Math.min(least, Number(process.hrtime.bigint() - start) / 1000 / steps)
  }
  return least
}

async function* generator() {
  yield* text
}
const drain = async (events) => {
  for await (const _ of events);
}
const repeat = (times, work) => async () => {
  for (let i = 0; i < times; i++) await work()
}

const file = await best(500, repeat(500, () => readFile('/dev/null')))
const promise = await best(500, repeat(500, () => tutor.providers()))
const plain = await best(EVENTS, () => drain(generator()))
const { turnId } = await tutor.chat('hi', { provider: 'ready' })
const streamed = await best(EVENTS, () => drain(tutor.events(turnId)))
const provided = await best(EVENTS, () => drain(tutor.stream('hi', { provider: 'ready' })))

const required = Math.min(
  ...Array.from({ length: 5 }, () => {
    const source = 'const t = process.hrtime.bigint(); require("neuro-tutor"); console.log(Number(process.hrtime.bigint() - t) / 1e6)'
    return Number(spawnSync(process.execPath, ['-e', source], { cwd: PACKAGE, encoding: 'utf8' }).stdout)
  }),
)

const { id } = await tutor.createSession()
const growth = async (calls) => {
  for (let i = 0; i < calls; i++) await tutor.session(id)
  globalThis.gc?.()
  return process.memoryUsage().rss
}
const before = await growth(1000)
const grown = (await growth(5000)) - before

console.log(`promise            ${promise.toFixed(1)} µs   ${(promise / file).toFixed(2)} × readFile (${file.toFixed(1)} µs), goal 0.4`)
console.log(`streamed event     ${streamed.toFixed(2)} µs   ${(streamed / plain).toFixed(1)} × async generator (${plain.toFixed(2)} µs), goal 12`)
console.log(`provider and back  ${provided.toFixed(2)} µs   ${(provided / plain).toFixed(1)} × async generator, goal 30`)
console.log(`require            ${required.toFixed(1)} ms   goal 40`)
console.log(`5000 calls         ${(grown / 2 ** 20).toFixed(1)} MiB  goal 8`)
await tutor.close()
