# tests/test_chat.py
import pytest
from fastapi.testclient import TestClient
from app.main import app

client = TestClient(app)

def test_health_check():
    response = client.get("/")
    assert response.status_code == 200
    assert response.json() == {"status": "healthy"}

def test_chat_endpoint():
    response = client.post("/api/chat", json={
        "messages": [{"role": "user", "content": "Hello"}],
        "preferences": {}
    })
    assert response.status_code == 200
