// `useChat` without React: the class under it, with the state that React would keep.

import * as ai5 from 'ai5'
import * as ai6 from 'ai6'
import * as ai7 from 'ai7'

export const releases = { 'ai 5': ai5, 'ai 6': ai6, 'ai 7': ai7 }

class State {
  status = 'ready'
  error = undefined
  constructor(messages) {
    this.messages = messages
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message]
  }
  popMessage = () => {
    this.messages = this.messages.slice(0, -1)
  }
  replaceMessage = (index, message) => {
    this.messages = [...this.messages.slice(0, index), structuredClone(message), ...this.messages.slice(index + 1)]
  }
  snapshot = (value) => structuredClone(value)
}

/** A chat of this release with the server, in a conversation of this id. */
export function chat(release, { url, id, messages = [], ...options }) {
  const { AbstractChat, DefaultChatTransport } = release
  class Chat extends AbstractChat {
    constructor() {
      super({
        id,
        state: new State(messages),
        generateId: release.generateId,
        transport: new DefaultChatTransport({ api: `${url}/api/chat` }),
        ...options,
      })
    }
  }
  return new Chat()
}

/** A message's words. */
export const words = (message) => message.parts.filter((part) => part.type === 'text').map((part) => part.text).join('')
