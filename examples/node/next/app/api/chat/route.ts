import { fromUIMessage, toUIMessageStreamResponse, TutorError, type UiMessage } from 'neuro-tutor'

import { tutor } from '../../../tutor'

/** What the SDK's transport sends. */
interface Body {
  id: string
  messages: UiMessage[]
  trigger: 'submit-message' | 'regenerate-message'
  messageId?: string
}

export async function POST(request: Request): Promise<Response> {
  const { id: session, messages, trigger, messageId } = (await request.json()) as Body
  const { signal } = request
  const tutors = await tutor()
  try {
    const stream =
      trigger === 'regenerate-message'
        ? tutors.stream(undefined, { session, regenerate: messageId, signal })
        : tutors.stream(fromUIMessage(messages.at(-1)!), { session, createSession: true, signal })
    return await toUIMessageStreamResponse(stream)
  } catch (error) {
    if (!(error instanceof TutorError)) throw error
    const { code, message } = error
    return Response.json({ code, message }, { status: code === 'conflict' ? 409 : code === 'not_found' ? 404 : 400 })
  }
}
