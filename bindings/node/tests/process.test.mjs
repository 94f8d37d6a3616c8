// What happens at the end of a process, and of a worker.
import assert from 'node:assert/strict'
import test from 'node:test'

import { run } from './support.mjs'

const ENDLESS = `{ name: 'endless', async *stream(_, { signal }) {
  for (;;) { yield 'word '; await new Promise((go) => { const t = setTimeout(go, 1); signal.onabort = () => { clearTimeout(t); go() } }) }
} }`

const PROGRAMS = {
  'after close': `
    const tutor = await Tutor.open('memory:', { providers: ['demo'] })
    await tutor.chat('hi')
    await tutor.close()`,
  'without close': `
    const tutor = await Tutor.open('memory:')
    await tutor.chat('hi')
    globalThis.tutor = tutor`,
  'after close, with a stream that was left in the middle': `
    const tutor = await Tutor.open('memory:', { providers: [{ kind: 'demo', delayMs: 5 }] })
    globalThis.stream = tutor.stream('hi')
    await stream.next()
    await tutor.close({ graceMs: 20 })`,
  'after close, with a stream of an own provider that was left in the middle': `
    const tutor = await Tutor.open('memory:', { providers: [${ENDLESS}] })
    globalThis.stream = tutor.stream('hi')
    await stream.next()
    await stream.next()
    await tutor.close({ graceMs: 20 })`,
  'after close, with a stream that never began': `
    const tutor = await Tutor.open('memory:')
    globalThis.stream = tutor.stream('hi')
    await tutor.close()`,
  'without close, with a stream that was left in the middle': `
    const tutor = await Tutor.open('memory:', { providers: [{ kind: 'demo', delayMs: 5000 }] })
    globalThis.stream = tutor.stream('hi')
    await stream.next()`,
  'with an own provider that never answers, and close': `
    const tutor = await Tutor.open('memory:', { providers: [{ name: 'x', async *stream() { await new Promise(() => {}) } }] })
    const reply = tutor.chat('hi').catch((error) => console.log(error.code))
    await tutor.close({ graceMs: 50 })
    await reply`,
}

for (const [when, program] of Object.entries(PROGRAMS)) {
  test(`a process ends by itself ${when}`, async () => {
    const { code, signal, stderr } = await run(`import { Tutor } from 'neuro-tutor'\n${program}`)
    assert.deepEqual([code, signal, stderr], [0, null, ''])
  })
}

test('process.exit() in the middle of a stream exits, every time', async () => {
  const program = `
    import { Tutor } from 'neuro-tutor'
    const tutor = await Tutor.open('memory:', { providers: [${ENDLESS}] })
    setTimeout(() => process.exit(7), Number(process.env.AFTER))
    for (;;) for await (const event of tutor.stream('hi'));`
  for (let round = 0; round < 8; round++) {
    const runs = await Promise.all([0, 5, 20].map((after) => run(program, { env: { AFTER: `${after + round}` } })))
    for (const { code, signal, stderr } of runs) assert.deepEqual([code, signal, stderr], [7, null, ''])
  }
})

test('a call in flight keeps the process alive', async () => {
  const { stdout } = await run(`
    import { Tutor } from 'neuro-tutor'
    const tutor = await Tutor.open('memory:', { providers: [{ kind: 'demo', delayMs: 1 }] })
    void (async () => {
      for await (const event of tutor.stream('hi')) if (event.type === 'turn.finished') console.log('whole')
    })()`)
  assert.equal(stdout.trim(), 'whole')
})

const WORKER = `
  const { parentPort } = require('node:worker_threads')
  const { Tutor } = require('neuro-tutor')
  void (async () => {
    const tutor = await Tutor.open('memory:', { providers: [${ENDLESS}, { kind: 'demo', delayMs: 1 }] })
    for (const provider of ['endless', 'demo']) void (async () => {
      for (;;) for await (const event of tutor.stream('hi', { provider }));
    })()
    for await (const event of tutor.stream('hi')) if (event.seq > 3) parentPort.postMessage('streaming')
  })()`

test('workers have tutors of their own, and may be terminated in the middle of anything', async () => {
  // In a process of its own: a crash would take this one along.
  const program = `
    import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    for (let round = 0; round < 20; round++) {
      const workers = Array.from({ length: 3 }, () => new Worker(${JSON.stringify(WORKER)}, { eval: true, execArgv: [] }))
      await Promise.all(workers.map((worker) => once(worker, 'message')))
      await Promise.all(workers.map((worker) => worker.terminate()))
    }
    console.log('alive')`
  const { code, signal, stdout, stderr } = await run(program, { limit: 100_000 })
  assert.deepEqual([code, signal, stdout.trim(), stderr], [0, null, 'alive', ''])
})
