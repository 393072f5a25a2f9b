"""The whole server over TCP, in front of the stub upstream of the tests."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from sqlalchemy import select

from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.settings import Settings
from tests.integration.live_server import live_server

ASK: Any = [{"role": "user", "content": "How do I centre a div?"}]
EXPLAIN: Any = {"modelyard": {"explain": True}}


@dataclass
class Running:
    """A server that listens."""

    url: str
    parts: ServerParts

    def openai(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def post(self, path: str, body: Any, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=60, **options)

    def chat(self, key: str | None = None, **body: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", {"model": "team", "messages": ASK, **body}, key)

    def health(self, key: str | None = None) -> dict[str, Any]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.get(f"{self.url}/health", headers=headers, timeout=60).json()

    def key(self, *scopes: str, **options: Any) -> str:
        return self.parts.keyring.create("shop", "test", scopes or ("chat",), **options)[1]

    def rows(self, table: Any) -> Sequence[Any]:
        assert self.parts.writer.flush(20)
        with self.parts.database.read() as session:
            found = session.scalars(select(table)).all()
            session.expunge_all()
        return found


@contextmanager
def running(settings: Settings) -> Generator[Running]:
    """Serve with these settings."""
    parts = open_parts(settings)
    with live_server(create_app(parts)) as url:
        yield Running(url, parts)
