"""One message by each of the Python clients, into the conversation that is named on the command line."""

from __future__ import annotations

import sys

import anthropic
import openai

url, session = sys.argv[1:]
headers = {"X-Session-Id": session}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as gpt:
    gpt.chat.completions.create(model="m", messages=said("openai in Python"), extra_headers=headers)
with anthropic.Anthropic(base_url=url, api_key="none") as claude:
    claude.messages.create(model="m", max_tokens=10, messages=said("anthropic in Python"), extra_headers=headers)
