"""The original system's models, word for word, and a database that they make.

`original.py make URL` makes it; `original.py read URL` reads it with the same models.
"""

import sys
import warnings
from datetime import datetime, timedelta

from sqlalchemy import Column, DateTime, ForeignKey, String, Text, create_engine, text
from sqlalchemy.orm import Session, relationship

warnings.simplefilter("ignore")
try:
    from sqlalchemy.ext.declarative import declarative_base
except ImportError:
    from sqlalchemy.orm import declarative_base

Base = declarative_base()


class ChatSession(Base):
    __tablename__ = "chat_sessions"

    id = Column(String, primary_key=True)
    title = Column(String, nullable=False)
    created_at = Column(DateTime, default=datetime.utcnow)
    updated_at = Column(DateTime, default=datetime.utcnow)
    messages = relationship("Message", back_populates="session")


class Message(Base):
    __tablename__ = "messages"

    id = Column(String, primary_key=True)
    session_id = Column(String, ForeignKey("chat_sessions.id"))
    role = Column(String, nullable=False)  # "user" or "assistant"
    content = Column(Text, nullable=False)
    timestamp = Column(DateTime, default=datetime.utcnow)
    session = relationship("ChatSession", back_populates="messages")


def make(engine) -> None:
    Base.metadata.create_all(engine)
    start = datetime(2025, 11, 27, 1, 2, 3, 7)
    with Session(engine) as session:
        session.add(ChatSession(id="plain", title="Größe 漢字 🌱", created_at=start, updated_at=start + timedelta(hours=1)))
        session.flush()
        for n in range(4):
            role = ("user", "assistant")[n % 2]
            # The first two at the same moment.
            session.add(Message(id=f"m{n}", session_id="plain", role=role, content=f"{n} é 🌱", timestamp=start + timedelta(seconds=n // 2)))
            session.flush()
        # An earlier message that was stored later.
        session.add(Message(id="early", session_id="plain", role="user", content="first", timestamp=start - timedelta(days=1)))
        session.add(ChatSession(id="my chat / 1", title="odd"))
        session.flush()
        session.add(Message(id="odd id", session_id="my chat / 1", role="Tutor", content="hm"))
        session.add(ChatSession(id="empty", title=""))
        session.add(ChatSession(id="gone", title="deleted"))
        session.flush()
        session.add(Message(id="orphan", session_id="gone", role="user", content="left behind"))
        session.flush()
        session.delete(session.get(ChatSession, "gone"))
        session.commit()
        session.execute(text("UPDATE chat_sessions SET created_at = NULL, updated_at = NULL WHERE id = 'empty'"))
        session.execute(text("UPDATE messages SET timestamp = NULL WHERE id = 'odd id'"))
        session.commit()


def read(engine) -> None:
    with Session(engine) as session:
        for chat in session.query(ChatSession).order_by(ChatSession.id):
            print(chat.id, chat.title, len(chat.messages), isinstance(chat.created_at, datetime))


if __name__ == "__main__":
    {"make": make, "read": read}[sys.argv[1]](create_engine(sys.argv[2]))
