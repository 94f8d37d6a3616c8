// A conversation of two turns, streamed and stored.
// Run it with `npm install ../../bindings/node` done in this folder.
import { Tutor } from 'neuro-tutor'

const tutor = await Tutor.open('data')

const stream = tutor.stream('What is photosynthesis?')
for await (const event of stream) {
  if (event.type === 'text.delta') process.stdout.write(event.text)
}

const reply = await tutor.chat('And in one sentence?', { session: stream.sessionId })
console.log(`\n\n${reply.text}\n`)

for (const message of (await tutor.messages(reply.sessionId)).items) {
  console.log(`${message.timestamp} ${message.role}: ${message.content.length} characters`)
}
await tutor.close()
