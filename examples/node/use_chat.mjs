// A route for `useChat` of the AI SDK, with Node's own HTTP server.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { toUIMessageStreamResponse, Tutor, TutorError } from 'neuro-tutor'

const tutor = await Tutor.open('memory:', { providers: [{ kind: 'demo', delayMs: 1 }] })

async function chat(request) {
  const body = await new Response(Readable.toWeb(request)).json()
  return toUIMessageStreamResponse(tutor.streamUI(body))
}

const server = createServer(async (request, response) => {
  try {
    const answer = await chat(request)
    response.writeHead(answer.status, Object.fromEntries(answer.headers))
    // When the client goes away this cancels the body, which stops the turn.
    await pipeline(Readable.fromWeb(answer.body), response)
  } catch (error) {
    const busy = error instanceof TutorError && error.code === 'conflict'
    if (!response.headersSent) response.writeHead(busy ? 409 : 500)
    response.end()
  }
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')

// What the SDK's transport sends.
const { port } = server.address()
const answer = await fetch(`http://127.0.0.1:${port}/`, {
  method: 'POST',
  body: JSON.stringify({ id: 'c1', messages: [{ role: 'user', parts: [{ type: 'text', text: 'Why is the sky blue?' }] }] }),
})
for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) process.stdout.write(chunk)

server.close()
await tutor.close()
