"""Lessons in a FastAPI application of one's own: `uvicorn fastapi_app:app`, or run it as it is to see it work.

The router is yours to change: who may ask is for the application to say, here by a header.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Optional

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from neuro_tutor import AsyncTutor, NotFoundError, TutorError

STATUS = {"invalid_input": 422, "not_found": 404, "conflict": 409, "too_large": 413, "rate_limited": 429, "overloaded": 503}


class Question(BaseModel):
    text: str
    session: Optional[str] = None


def learner(request: Request, x_learner: Annotated[str, Header()] = "guest") -> AsyncTutor:
    """The tutor as this learner may use it. Check here who they are."""
    tutor: AsyncTutor = request.app.state.tutor
    return tutor.for_owner(x_learner)


Learner = Annotated[AsyncTutor, Depends(learner)]
router = APIRouter()


@router.post("/ask")
async def ask(question: Question, tutor: Learner) -> StreamingResponse:
    """Streams the reply as Server-Sent Events. Who leaves stops it."""
    stream = await tutor.stream(question.text, session=question.session)

    async def events() -> AsyncIterator[str]:
        async with stream:
            async for event in stream:
                yield f"id: {event.seq}\ndata: {json.dumps(event.to_dict())}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get("/lessons")
async def lessons(tutor: Learner, cursor: Optional[str] = None) -> dict[str, object]:
    """The learner's conversations, the latest used first."""
    return (await tutor.sessions(cursor=cursor)).to_dict()


@router.get("/lessons/{session}")
async def lesson(session: str, tutor: Learner) -> dict[str, object]:
    """What was said in one of them."""
    return (await tutor.messages(session)).to_dict()


@router.delete("/lessons/{session}", status_code=204)
async def forget(session: str, tutor: Learner) -> None:
    """Deletes one of them."""
    if not await tutor.delete_session(session):
        raise NotFoundError("no such lesson")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncTutor.open("lessons") as tutor:
        app.state.tutor = tutor
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(router)


@app.exception_handler(TutorError)
async def refused(request: Request, error: TutorError) -> JSONResponse:
    """Every error says what to do: its code, and whether to try again."""
    headers = {"Retry-After": str(max(1, round(error.retry_after)))} if error.retry_after else None
    body = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return JSONResponse(body, STATUS.get(error.code, 502), headers)


def main() -> None:
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        client.headers["X-Learner"] = "ada"
        with client.stream("POST", "/ask", json={"text": "What is photosynthesis?"}) as response:
            events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
        print(events[-1]["type"], len(events), "events")
        print(len(client.get("/lessons").json()["items"]), "lesson of Ada")
        print(client.get(f"/lessons/{events[0]['session_id']}", headers={"X-Learner": "emil"}).json()["code"])


if __name__ == "__main__":
    main()
