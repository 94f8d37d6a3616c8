// A server for `useChat` of the AI SDK, with Express: npm install, then npm start.
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import express from 'express'
import { toUIMessageStreamResponse, Tutor, TutorError } from 'neuro-tutor'

const tutor = await Tutor.fromEnv(process.env.TUTOR_DATA ?? 'data')
const app = express()
app.use(express.json({ limit: '12mb' }))

app.post('/api/chat', async (request, response) => {
  // What cannot begin rejects here, and is answered below.
  const answer = await toUIMessageStreamResponse(tutor.streamUI(request.body))
  response.writeHead(answer.status, Object.fromEntries(answer.headers))
  // When the client goes away this cancels the body, which stops the turn.
  await pipeline(Readable.fromWeb(answer.body), response).catch((error) => {
    if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  })
})

app.get('/api/chat/:id/messages', async (request, response) => {
  response.json((await tutor.messages(request.params.id)).items)
})

const STATUS = { invalid_input: 422, not_found: 404, conflict: 409, too_large: 413, rate_limited: 429, overloaded: 503 }

app.use((error, request, response, next) => {
  if (!(error instanceof TutorError) || response.headersSent) return next(error)
  const { code, message, retryAfterMs } = error
  if (retryAfterMs !== undefined) response.setHeader('retry-after', Math.ceil(retryAfterMs / 1000))
  response.status(STATUS[code] ?? 500).json({ code, message })
})

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`)
})

// Whoever is being answered is answered; then the data is closed.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close()
    server.closeIdleConnections()
    void tutor.close()
  })
}
