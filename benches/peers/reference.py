"""The documented backend in FastAPI, SQLAlchemy and SQLite: what one server of its kind costs.

It keeps a session, the learner's message and the reply, and commits once, before it answers. The
reply is the document's. `pip install -r peers/requirements.txt`, then `python peers/reference.py PORT`.
"""

from __future__ import annotations

import sys
import uuid
from datetime import datetime, timezone
from typing import Any, Literal, Optional

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel
from sqlalchemy import DateTime, ForeignKey, String, Text, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

REPLY = "This is a mock response from the AI tutor."


def now() -> datetime:
    return datetime.now(timezone.utc)


class Base(DeclarativeBase):
    pass


class ChatSession(Base):
    __tablename__ = "chat_sessions"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    title: Mapped[str] = mapped_column(String)
    created_at: Mapped[datetime] = mapped_column(DateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime, default=now)
    messages: Mapped[list[Message]] = relationship(back_populates="session")


class Message(Base):
    __tablename__ = "messages"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("chat_sessions.id"))
    role: Mapped[str] = mapped_column(String)
    content: Mapped[str] = mapped_column(Text)
    timestamp: Mapped[datetime] = mapped_column(DateTime, default=now)
    session: Mapped[ChatSession] = relationship(back_populates="messages")


class ChatMessage(BaseModel):
    role: Literal["user", "assistant", "system"]
    content: str
    timestamp: Optional[datetime] = None


class ChatRequest(BaseModel):
    messages: list[ChatMessage]
    preferences: dict[str, Any] = {}


engine = create_engine("sqlite:///./neuro_tutor.db")


@event.listens_for(engine, "connect")
def durable(connection: Any, _: Any) -> None:
    # As fast as SQLite is while it loses nothing.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


Base.metadata.create_all(engine)
sessions = scoped_session(sessionmaker(engine, expire_on_commit=False))

app = FastAPI(title="Neuro Tutor API", version="1.0.0")
app.add_middleware(
    CORSMiddleware,
    allow_origins=["http://localhost:5173", "http://localhost:5180"],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)


@app.get("/")
async def root() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/api/chat")
async def chat_endpoint(request: ChatRequest) -> dict[str, Any]:
    try:
        database: Session = sessions()
        asked = request.messages[-1].content
        session = ChatSession(id=str(uuid.uuid4()), title=asked[:50])
        reply = Message(id=str(uuid.uuid4()), role="assistant", content=REPLY, timestamp=now())
        session.messages = [Message(id=str(uuid.uuid4()), role="user", content=asked), reply]
        database.add(session)
        database.commit()
        sessions.remove()
        return {
            "reply_message": {"id": reply.id, "role": reply.role, "content": reply.content, "timestamp": reply.timestamp},
            "session_id": session.id,
        }
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error


@app.get("/api/sessions")
async def get_sessions() -> dict[str, Any]:
    with sessions() as database:
        found = database.scalars(select(ChatSession).order_by(ChatSession.updated_at.desc())).all()
        return {"sessions": [{"id": s.id, "title": s.title, "created_at": s.created_at, "updated_at": s.updated_at} for s in found]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
