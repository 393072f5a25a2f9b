"""No kind of work starves another: the server answers what it can while one of its parts hangs."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from modelyard.control.pools import FEEDBACK
from modelyard.control.quotas import Quota
from modelyard.settings import Settings
from tests.integration.running import ASK, Running, running
from tests.unit.serving.champions import crown_router
from tests.unit.serving.yard import StubUpstream, furnish, stub_upstream

CHAT = {"messages": ASK}


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path)


@asynccontextmanager
async def flood(server: Running, message_id: str) -> AsyncGenerator[list[asyncio.Task[httpx.Response]]]:
    """Send far more feedback than there is room for, and stay until the end for the answers."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=httpx.Limits()) as client:
        body = {"message_id": message_id, "rating": 4}
        tasks = [asyncio.create_task(client.post("/v1/feedback", json=body)) for _ in range(150)]
        yield tasks
        await asyncio.gather(*tasks)


async def test_feedback_on_a_locked_database_starves_nothing(furnished: Settings) -> None:
    file = furnished.database.removeprefix("sqlite:///")
    with running(furnished) as server, closing(sqlite3.connect(file, isolation_level=None)) as other:
        answer = (await asyncio.to_thread(server.chat)).json()
        assert await asyncio.to_thread(server.parts.writer.flush, 20)
        other.execute("BEGIN EXCLUSIVE")
        async with flood(server, answer["id"]) as feedback:
            while sum(task.done() for task in feedback) < 150 - FEEDBACK.threads - (FEEDBACK.waiting or 0):
                await asyncio.sleep(0.05)
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                found = await asyncio.gather(
                    client.get("/health"),
                    client.get("/metrics"),
                    client.post("/v1/chat/completions", json={"model": "pair", **CHAT}),  # is composed now
                )
            assert [response.status_code for response in found] == [200, 200, 200]
            # All that while the two threads of feedback waited for the lock.
            assert sum(not task.done() for task in feedback) >= FEEDBACK.threads
            other.execute("ROLLBACK")
        refused = [task.result() for task in feedback if task.result().status_code != 201]
        assert {response.status_code for response in refused} == {503}
        assert all(int(response.headers["retry-after"]) > 0 for response in refused)
        assert {response.json()["error"]["code"] for response in refused} == {"overloaded"}


def test_feedback_counts_among_the_requests_of_its_key_and_costs_no_budget(
    settings: Settings, upstream: StubUpstream, tmp_path: Path
) -> None:
    with running(furnish(settings, upstream, tmp_path, auth="keys")) as server:
        plaintext = server.key("chat", "feedback")
        [facts] = server.parts.keyring.list()
        answer = server.chat(plaintext).json()
        said = {"message_id": answer["id"], "rating": 5}
        server.parts.quotas.put(Quota("key", facts.id, usd_per_day=1e-9))  # spent already
        assert server.chat(plaintext).status_code == 429
        assert server.post("/v1/feedback", said, plaintext).status_code == 201
        server.parts.quotas.put(Quota("key", facts.id, requests_per_minute=3))
        found = [server.post("/v1/feedback", said, plaintext) for _ in range(4)]
        assert [response.status_code for response in found] == [201, 201, 201, 429]
        assert int(found[-1].headers["retry-after"]) > 0
        assert server.chat(plaintext).status_code == 429


def test_strangers_do_not_make_health_look(
    settings: Settings, upstream: StubUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = list[int]()
    changed = furnish(settings, upstream, tmp_path, auth="keys")
    crown_router(changed)
    with running(changed) as server:
        champions = server.parts.served.champions

        def counted() -> object:
            looks.append(1)
            return champions()

        monkeypatch.setattr(server.parts.served, "champions", counted)
        began = time.monotonic()
        wrong = [httpx.get(f"{server.url}/health", headers={"authorization": "Bearer my-wrong"}) for _ in range(5)]
        assert ({response.status_code for response in wrong}, looks) == ({401}, [])
        for _ in range(50):
            assert server.health() == {"status": "ok"}
        assert 1 <= len(looks) <= 2 + (time.monotonic() - began)  # one a second, however many ask


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/feedback"])
def test_body_that_does_not_arrive_gives_its_place_back(furnished: Settings, path: str) -> None:
    with running(furnished.model_copy(update={"body_s": 0.3, "max_in_flight": 1})) as server:
        address = urlsplit(server.url)
        with closing(socket.create_connection((address.hostname or "", address.port or 0), timeout=30)) as slow:
            head = f"POST {path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
            slow.sendall(head.encode() + b'{"model"')
            said = b""
            while chunk := slow.recv(65536):  # ends because the server closes the connection
                said += chunk
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b'"message":"The request\'s body did not arrive within 0.3 s."' in body
        assert b'"type":"invalid_request_error"' in body
        assert server.chat().status_code == 200
