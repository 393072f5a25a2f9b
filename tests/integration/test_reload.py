"""What serves is changed while it serves: no stream breaks off, and the new one answers next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modelyard.registry.champions import champion_folder
from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings
from tests.integration.running import ASK, EXPLAIN, Running, running
from tests.unit.routing.toy import router
from tests.unit.serving.champions import crown, crown_classifier, crown_router
from tests.unit.serving.yard import TEXT, Script, StubUpstream, furnish, stub_upstream

STREAMS = 20
EITHER = """
[composites.either]
description = "The router chooses."
candidates = ["far", "near"]
fallback = "far"
cost_weight = 0.0
"""
ADDED = '\n[composites.added]\ndescription = "New."\ncandidates = ["near"]\nfallback = "near"\n'


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path, EITHER, registry_poll_s=0.1)


@pytest.fixture
def server(furnished: Settings) -> Iterator[Running]:
    with running(furnished) as server:
        yield server


def routed(server: Running, model: str = "either") -> dict[str, Any]:
    return server.chat(model=model, **EXPLAIN).json()["modelyard"]["model_metadata"]


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)


def streams_during(server: Running, upstream: StubUpstream, change: Callable[[], None]) -> None:
    """Open streams, make a change that takes effect, and hold every stream to its whole answer."""
    gate = threading.Event()
    upstream.scripts = {name: Script(gate=gate) for name in ("far", "near")}

    def read() -> str:
        with server.openai() as client:
            pieces = client.chat.completions.create(model="either", messages=ASK, stream=True)
            return "".join(piece.choices[0].delta.content or "" for piece in pieces)

    before = server.parts.served.generation
    with ThreadPoolExecutor(STREAMS) as threads:
        reading: list[Future[str]] = [threads.submit(read) for _ in range(STREAMS)]
        try:
            until(lambda: upstream.open == STREAMS, "every stream")
            before = server.parts.served.generation
            change()
            until(lambda: server.parts.served.generation > before, "the change")
            assert upstream.open == STREAMS
        finally:
            gate.set()
        assert [future.result(30) for future in reading] == [TEXT] * STREAMS
    upstream.scripts = {}


def test_promoted_champions_serve_next(server: Running, furnished: Settings, upstream: StubUpstream) -> None:
    assert routed(server)["route"]["policy"] == "static"
    streams_during(server, upstream, lambda: crown_router(furnished, {"far": 0.2, "near": 0.9}))
    about = routed(server)
    assert (about["route"]["policy"], about["model"], about["versions"]["router"]) == ("learned", "near", "router-5")

    streams_during(server, upstream, lambda: crown_classifier(furnished))
    assert routed(server)["versions"]["classifier"] == "classifier-2"


def test_changed_catalogue_file_serves_next(server: Running, furnished: Settings, upstream: StubUpstream) -> None:
    assert server.chat(model="added").status_code == 404
    file = furnished.catalog
    assert file is not None
    whole = file.read_text("utf-8")
    streams_during(server, upstream, lambda: void(file.write_text(whole + ADDED, "utf-8")))
    assert routed(server, "added")["model"] == "near"
    assert "added" in server.parts.served.names


def test_published_index_serves_next(server: Running, furnished: Settings, upstream: StubUpstream) -> None:
    assert routed(server)["versions"]["index"] is None
    document = parse_document("flexbox", "# Flexbox\n\nUse flexbox to centre a div.\n")
    streams_during(server, upstream, lambda: void(publish(Index.build([document]), furnished)))
    answer = server.chat(model="either", **EXPLAIN).json()["modelyard"]
    assert answer["model_metadata"]["versions"]["index"]
    assert [passage["document"] for passage in answer["rag_sources"]] == ["flexbox"]


def test_model_that_is_disabled_is_not_called_any_more(server: Running, upstream: StubUpstream) -> None:
    streams_during(server, upstream, lambda: void(server.parts.manager.disable("model", "near")))
    assert [candidate["model"] for candidate in routed(server)["route"]["candidates"]] == ["far"]
    assert server.chat(model="near").status_code == 404


def test_damaged_champion_is_refused_and_the_old_one_serves(
    server: Running, furnished: Settings, upstream: StubUpstream
) -> None:
    crown_router(furnished, {"far": 0.2, "near": 0.9})
    assert routed(server)["versions"]["router"] == "router-5"
    crown("router", "6", router({"far": 0.9, "near": 0.1}, cost_weight=0.0).state(), furnished)
    path = champion_folder("router", "6", furnished) / "model.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    server.parts.served.refresh()
    until(lambda: bool(server.parts.served.problems), "the refusal")
    assert routed(server)["versions"]["router"] == "router-5"
    health = server.health()
    assert (health["status"], health["champions"]["router"]["state"]) == ("degraded", "broken")
    assert any("model.json" in problem for problem in health["problems"])

    path.write_bytes(whole)  # put right, it serves
    until(lambda: routed(server)["versions"]["router"] == "router-6", "the whole champion")
    until(lambda: server.health()["status"] == "ok", "the recovery")


def test_broken_catalogue_file_changes_nothing(server: Running, furnished: Settings) -> None:
    assert routed(server)["model"] == "far"
    file = furnished.catalog
    assert file is not None
    whole = file.read_text("utf-8")
    file.write_text(whole + '\n[composites.bad]\ncandidates = ["nobody"]\n', "utf-8")
    until(lambda: server.health()["status"] == "degraded", "the refusal")
    assert routed(server)["model"] == "far"
    assert any("bad" in problem or "nobody" in problem for problem in server.health()["problems"])
    file.write_text(whole, "utf-8")
    until(lambda: server.health()["status"] == "ok", "the recovery")


def void(_: object) -> None:
    """Take a result that nobody needs."""
