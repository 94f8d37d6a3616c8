"""The tests that the documented API came with, on the real server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


def test_health_check(client: httpx.Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.json() == {"status": "healthy"}


def test_chat_endpoint(client: httpx.Client) -> None:
    response = client.post(
        "/api/chat",
        json={"messages": [{"role": "user", "content": "Hello"}], "preferences": {}},
    )
    assert response.status_code == 200


def test_sessions_lists_the_conversation(client: httpx.Client) -> None:
    chat = client.post("/api/chat", json={"messages": [{"role": "user", "content": "Hello"}]}).json()
    sessions = client.get("/api/sessions").json()["sessions"]
    assert [session["id"] for session in sessions] == [chat["session_id"]]
    assert sessions[0]["message_count"] == 2


def test_openapi_is_valid(client: httpx.Client) -> None:
    from openapi_spec_validator import validate

    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Neuro Tutor API"
    validate(document)
