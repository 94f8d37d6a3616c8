"""The tests that the documented API came with, on the real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ORIGINAL = Path(__file__).with_name("original")


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


def test_the_documented_file_of_tests_passes_as_it_stands(server: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "app/tests"]
    env = {**os.environ, "NEURO_TUTOR_URL": server, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ORIGINAL, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


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
