// A provider of one's own: anything that can be iterated over may answer a learner.
import { setTimeout as sleep } from 'node:timers/promises'
import { Tutor, TutorError } from 'neuro-tutor'

const socrates = {
  name: 'socrates',
  async *stream({ messages }, { signal }) {
    const question = String(messages.at(-1).content)
    if (question.length > 200) {
      throw new TutorError('too_large', 'Socrates answers short questions: ask one of at most 200 characters')
    }
    for (const word of `What do you mean by “${question}”?`.split(/(?<= )/)) {
      // Ends at once when nobody listens any more.
      await sleep(5, undefined, { signal })
      yield word
    }
  },
}

const tutor = await Tutor.open('memory:', { providers: [socrates] })
for await (const event of tutor.stream('What is virtue?')) {
  if (event.type === 'text.delta') process.stdout.write(event.text)
}
console.log()

// Whoever stops reading stops the reply; what had arrived is kept.
const stream = tutor.stream('What is courage?')
for await (const event of stream) {
  if (event.type === 'text.delta') break
}
const { status } = await tutor.turn(stream.turnId)
console.log(`The second reply was ${status}.`)

await tutor.chat('x'.repeat(500)).catch((error) => console.log(`${error.code}: ${error.message}`))
await tutor.close()
