"""An upstream's error that quotes the prompt is told to whoever asked, and to nobody and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelyard.settings import Settings
from modelyard.storage import Message
from tests.integration.running import Running, running
from tests.unit.serving.yard import Script, StubUpstream, furnish, stub_upstream

SECRET = "my password is swordfish"
QUOTED = {"message": f"bad input: {SECRET}"}


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path, auth="keys")


def get(server: Running, path: str, key: str) -> str:
    return httpx.get(f"{server.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=60).text


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("stream", [False, True])
def test_words_of_an_upstream_reach_the_caller_alone(
    furnished: Settings, upstream: StubUpstream, caplog: pytest.LogCaptureFixture, status: int, stream: bool
) -> None:
    caplog.set_level(logging.DEBUG, "modelyard")
    upstream.scripts["far"] = Script(status=status, error=QUOTED)
    with running(furnished) as server:
        operator = server.key("admin")
        assert SECRET in server.chat(server.key(), stream=stream).json()["error"]["message"]
        assert SECRET not in get(server, "/health", operator)
        assert SECRET not in get(server, "/metrics", operator)
        assert SECRET not in get(server, "/admin/deployments", operator)
        assert f"answered with status {status}" in get(server, "/health", operator)
    assert SECRET not in caplog.text
    assert f"answered with status {status}" in caplog.text or status == 400


def test_words_in_the_middle_of_a_stream_reach_the_caller_alone(
    furnished: Settings, upstream: StubUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "modelyard")
    upstream.scripts["far"] = Script(events=({"error": QUOTED},))
    with running(furnished) as server:
        assert SECRET in server.chat(server.key(), stream=True).text
    assert "broke off" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("model", ["team", "pair"])
def test_words_are_stored_only_where_texts_are(
    furnished: Settings, upstream: StubUpstream, kept: bool, model: str
) -> None:
    upstream.scripts["far"] = Script(status=404, error=QUOTED)
    with running(furnished.model_copy(update={"store_texts": kept})) as server:
        server.chat(server.key(), model=model)
        [message] = server.rows(Message)
    stored = f"{message.model_metadata} {message.processing_metadata}"
    assert "answered with status 404" in stored
    assert (SECRET in stored) == (kept and model == "team")


def test_words_about_an_embedding_reach_its_caller(furnished: Settings, upstream: StubUpstream) -> None:
    upstream.scripts["vectors"] = Script(status=401, error=QUOTED)
    with running(furnished) as server:
        alone = server.post("/v1/embeddings", {"model": "vectors", "input": SECRET}, server.key("embeddings"))
    assert SECRET in alone.json()["error"]["message"]
