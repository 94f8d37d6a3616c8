import { toUIMessageStreamResponse, TutorError } from 'neuro-tutor'

import { tutor } from '../../../tutor'

export async function POST(request: Request): Promise<Response> {
  const body: unknown = await request.json()
  const tutors = await tutor()
  try {
    return await toUIMessageStreamResponse(tutors.streamUI(body, { signal: request.signal }))
  } catch (error) {
    if (!(error instanceof TutorError)) throw error
    const { code, message } = error
    return Response.json({ code, message }, { status: code === 'conflict' ? 409 : code === 'not_found' ? 404 : 400 })
  }
}
