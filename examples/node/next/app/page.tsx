'use client'

import { useChat } from '@ai-sdk/react'
import { useState } from 'react'

export default function Page() {
  const { messages, sendMessage, regenerate, stop, status } = useChat()
  const [text, setText] = useState('')
  const busy = status === 'submitted' || status === 'streaming'
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id}>
          <b>{message.role}: </b>
          {message.parts.map((part, index) => (part.type === 'text' ? <span key={index}>{part.text}</span> : null))}
        </p>
      ))}
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void sendMessage({ text })
          setText('')
        }}
      >
        <input value={text} onChange={(event) => setText(event.target.value)} placeholder="Ask" />
        {busy ? (
          <button type="button" onClick={() => void stop()}>Stop</button>
        ) : (
          <button type="button" onClick={() => void regenerate()} disabled={messages.length === 0}>Again</button>
        )}
      </form>
    </main>
  )
}
