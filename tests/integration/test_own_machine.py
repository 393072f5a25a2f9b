"""Without keys no web page of another site can ask anything, in whatever way it reaches this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelyard.serving.own_machine import from_elsewhere
from modelyard.settings import Settings
from tests.integration.running import ASK, Running, running
from tests.unit.serving.yard import StubUpstream, furnish, stub_upstream

CHAT = json.dumps({"model": "team", "messages": ASK})
DOORS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/team"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/admin/models"),
    ("GET", "/analytics/usage"),
    ("GET", "/nothing"),
]


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Iterator[Running]:
    with running(furnish(settings, upstream, tmp_path)) as server:
        yield server


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_other_sites_are_kept_out_of_everything(
    server: Running, upstream: StubUpstream, headers: dict[str, str]
) -> None:
    for method, path in DOORS:
        body = CHAT if method == "POST" else None
        found = httpx.request(
            method, f"{server.url}{path}", content=body, headers={"content-type": "text/plain"} | headers
        )
        assert (found.status_code, found.json()["error"]["code"]) == (403, "insufficient_permissions"), path
        assert "this machine only" in found.json()["error"]["message"]
    assert upstream.raw == []


def test_programs_and_pages_of_this_server_are_answered(server: Running) -> None:
    for headers in ({}, {"Origin": server.url}, {"Host": "localhost:8000", "Origin": "http://localhost:8000"}):
        assert httpx.post(f"{server.url}/v1/chat/completions", content=CHAT, headers=headers).status_code == 200
        assert httpx.get(f"{server.url}/health", headers=headers).status_code == 200


def test_with_keys_names_and_pages_do_not_matter(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> None:
    with running(furnish(settings, upstream, tmp_path, auth="keys")) as server:
        headers = {"Host": "yard.example", "Origin": "https://app.example", "Authorization": f"Bearer {server.key()}"}
        assert httpx.post(f"{server.url}/v1/chat/completions", content=CHAT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "elsewhere"),
    [
        (b"127.0.0.1:8000", None, False),
        (b"[::1]:8000", b"http://[::1]:8000", False),
        (b"127.1.2.3", None, False),
        (b"localhost.evil.example", None, True),
        (b"127.0.0.1.nip.io", None, True),
        (b"evil@localhost", b"http://localhost", True),
        (b"[::1", None, True),
        (b"", None, True),
        (b"localhost:8000", b"http://localhost:3000", True),
        (b"\xff", b"\xff", True),
    ],
)
def test_what_is_this_machine(host: bytes, origin: bytes | None, elsewhere: bool) -> None:
    headers = [(b"accept", b"*/*"), (b"host", host), *([(b"origin", origin)] if origin else [])]
    assert from_elsewhere(headers) == elsewhere


def test_a_second_host_does_not_hide_the_first() -> None:
    assert from_elsewhere([(b"host", b"evil.example"), (b"host", b"localhost")])
    assert from_elsewhere([(b"host", b"localhost"), (b"host", b"evil.example")])
