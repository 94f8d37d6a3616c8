import { Tutor } from 'neuro-tutor'

// One for the process: a directory belongs to one tutor, and Next loads this file again when it changes.
const kept = globalThis as { tutor?: Promise<Tutor> }

export function tutor(): Promise<Tutor> {
  return (kept.tutor ??= Tutor.fromEnv(process.env.TUTOR_DATA ?? 'data', {
    systemPrompt: 'You are a patient tutor. Never give the answer away.',
  }))
}
