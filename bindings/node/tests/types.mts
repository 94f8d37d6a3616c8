// Compiled by the tests, as an ES module and as a CommonJS module; never run.
import { tool, Tutor, TutorError, TurnStream, type DayUsage, type Provider, type Reply, type StandardSchema, type Status, type TurnEvent, type UploadedFile } from 'neuro-tutor'
import { TutorSession } from 'neuro-tutor/openai-agents'
import { checkProvider, ScriptedProvider } from 'neuro-tutor/testing'

const mine: Provider = {
  name: 'mine',
  models: ['small'],
  async *stream(request, { signal }) {
    signal.throwIfAborted()
    yield request.messages.map((message) => String(message.content)).join()
    yield { type: 'usage', inputTokens: 1 }
    yield { type: 'finished', reason: 'stop' }
  },
}
const listed: Provider = { name: 'listed', stream: () => ['a', { type: 'text.delta', text: 'b' }] }

// @ts-expect-error: a delta has a type
const wrong: Provider = { name: 'wrong', async *stream() { yield { text: 'x' } } }

function show(event: TurnEvent): string {
  switch (event.type) {
    case 'turn.started':
      return event.sessionId
    case 'text.delta':
      return event.text
    case 'turn.failed':
      return event.error.code
    case 'turn.finished':
      return event.message.id
    default:
      return `${event.seq}`
  }
}

export async function use(): Promise<Reply> {
  await using tutor = await Tutor.open(new URL('file:///data'), {
    providers: [mine, listed, wrong, 'demo', { kind: 'openai', apiKey: 'k' }],
    limits: { closeGraceMs: 5 },
  })
  const stream: TurnStream = tutor.stream('hi', { signal: AbortSignal.timeout(5) })
  for await (const event of stream) show(event)
  for await (const event of stream.toReadableStream()) show(event)
  const page = await tutor.sessions({ limit: 5 })
  // @ts-expect-error: a session has no such member
  page.items[0]?.nothing
  // @ts-expect-error: no such option
  await tutor.chat('hi', { sesion: 'x' })
  try {
    return await tutor.chat([{ type: 'text', text: 'hi' }], { session: page.items[0]?.id })
  } catch (error) {
    if (error instanceof TutorError && error.code === 'conflict') return tutor.chat('again')
    throw error
  }
}

const eats: StandardSchema<{ eats: string }> = {
  '~standard': { version: 1, vendor: 'mine', validate: (value) => ({ value: value as { eats: string } }), jsonSchema: { input: () => ({ type: 'object' }) } },
}

/** What is perhaps not there may be said so. */
export async function perhaps(tutor: Tutor, maybe: string | undefined, many: number | undefined): Promise<void> {
  await using _ = await Tutor.open('memory:', { owner: maybe, limits: { maxEvents: many }, files: { maxFiles: many }, providers: [{ kind: 'openai', model: maybe, breaker: { failures: many } }] })
  await tutor.sessions({ limit: many, cursor: maybe })
  await tutor.search('x', { limit: many })
  await tutor.messages('x', { before: maybe, limit: many })
  await tutor.usage({ from: maybe, to: maybe })
  await tutor.createSession({ id: maybe, title: maybe, metadata: undefined })
  await tutor.updateSession('x', { title: maybe })
  await tutor.context('x', { tokens: many })
  await tutor.import(new Uint8Array(), { onConflict: undefined })
  await tutor.import(Buffer.from('x'))
  await tutor.import('x')
  await tutor.import(tutor.export({ since: maybe }))
  await tutor.serve({ host: maybe, port: many })
  await tutor.files.list({ limit: many, cursor: maybe })
  await tutor.close({ graceMs: many })
  void tutor.events('x', { after: many, signal: undefined })
}

export async function typed(): Promise<string> {
  const double = tool({ inputSchema: eats, execute: ({ eats }, { signal }) => (signal.throwIfAborted(), eats.length) })
  await using tutor = await Tutor.open('memory:', { tools: { double }, improveTitles: true, catalog: { x: { contextWindow: 5 } } })
  const reply = await tutor.chat('hi', { output: eats, attachments: ['a.png', new Uint8Array(1), new Blob([]), { path: 'b', name: 'c' }] })
  // @ts-expect-error: the schema says what the output has
  reply.output.drinks
  const streamed = await tutor.stream('hi', { output: { name: 'diet', schema: eats } }).reply()
  const unknown: unknown = (await tutor.chat('hi', { output: { type: 'object' } })).output
  const file: UploadedFile = await tutor.files.upload(new Blob([]), { name: 'a' })
  const confirm = tool({ description: 'Asks', inputSchema: eats })
  const { toolCalls } = await tutor.chat('hi', { attachments: [file], tools: { confirm, double } })
  await tutor.chat(toolCalls.map(({ callId }) => ({ type: 'tool_result', callId, result: 1 })))
  const feedback = await tutor.rate(reply.sessionId, reply.message.id, 'up', { comment: 'x' })
  // @ts-expect-error: a thumb goes up or down
  await tutor.rate(reply.sessionId, reply.message.id, 'good')
  const days: DayUsage[] = await tutor.usage({ from: '2026-01-01' })
  const { turnsPerDay } = await tutor.quota()
  await tutor.replaceProviders([mine, 'demo'], { defaultProvider: 'demo' })
  const status: Status = await tutor.status()
  void [feedback?.rating, days[0]?.costUsd, turnsPerDay, status.durability]
  const context = await tutor.context(reply.sessionId, { tokens: 5 })
  const session = new TutorSession<{ type: string }>(tutor)
  await checkProvider(() => new ScriptedProvider('a', ['b', new Error('c')]))
  return `${streamed.output.eats}${unknown}${context.leftOut}${(await session.getItems())[0]?.type}`
}
