"""What is decided of a conversation over HTTP, and what is kept of it for the next request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings
from modelyard.types import Message
from tests.integration.running import ASK, EXPLAIN, Running, running
from tests.unit.routing.toy import router
from tests.unit.serving.champions import crown, crown_classifier, crown_router
from tests.unit.serving.yard import StubUpstream, furnish, stub_upstream

EITHER = """
[composites.either]
description = "The router chooses."
candidates = ["far", "near"]
fallback = "far"
cost_weight = 0.0

[composites.loyal]
description = "A conversation stays with its model."
candidates = ["far", "near"]
fallback = "far"
sticky = "conversation"
"""
KEPT = "kept from an earlier request"
HOOK = "Write a React hook in TypeScript that debounces a value and cancels its timer on unmount"


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    document = parse_document("flexbox", "# Flexbox\n\nUse flexbox to centre a div.\n")
    publish(Index.build([document]), settings)
    return furnish(settings, upstream, tmp_path, EITHER)


@pytest.fixture
def server(furnished: Settings) -> Iterator[Running]:
    with running(furnished) as server:
        yield server


def asked(server: Running, key: str | None = None, **body: Any) -> dict[str, Any]:
    """The `modelyard` object of an answer."""
    response = server.chat(key, **{"model": "either", **EXPLAIN, **body})
    assert response.status_code == 200, response.text
    return response.json()["modelyard"]


def routed(server: Running, **body: Any) -> str:
    return asked(server, **body)["model_metadata"]["route"]["model"]


def kept_steps(answer: dict[str, Any]) -> list[str]:
    return [step["name"] for step in answer["processing_metadata"] if KEPT in step["reason"]]


def counts(server: Running) -> dict[str, tuple[int, int]]:
    caches = httpx.get(f"{server.url}/admin/caches", timeout=60).json()
    return {cache["name"]: (cache["hits"], cache["misses"]) for cache in caches}


def follow_up(said: str, answer: str = "Use flexbox ☂.") -> list[dict[str, str]]:
    return [
        {"role": "user", "content": HOOK},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": said},
    ]


def test_follow_up_is_routed_as_what_it_follows(server: Running) -> None:
    first = asked(server, messages=follow_up("")[:1])["model_metadata"]
    later = asked(server, messages=follow_up("ok thanks, go on"))["model_metadata"]
    assert later["task"]["domain"] == first["task"]["domain"]
    assert later["task"]["tokens"] == round(len(HOOK + "Use flexbox ☂." + "ok thanks, go on") / 4)
    assert later["route"]["reasons"][-1].startswith("the last turn leans on what was said before")
    reasons = server.chat(model="either", messages=follow_up("go on")).headers["x-modelyard-route-reason"]
    assert "it was read with the user turn before it" in reasons


def test_caches_count_their_hits_where_operators_look(server: Running) -> None:
    first, second = asked(server), asked(server, temperature=0.5)
    assert kept_steps(first) == []
    assert kept_steps(second) == ["classify", "route", "retrieve"]
    assert second["rag_sources"] == first["rag_sources"] != []
    found = counts(server)
    assert (found["decisions"], found["passages"]) == ((1, 1), (1, 1))
    metrics = httpx.get(f"{server.url}/metrics", timeout=60).text
    hits = [line for line in metrics.splitlines() if "decisions" in line and "hit" in line]
    assert any(line.endswith(" 1.0") for line in hits), hits


def test_streams_use_what_was_kept_too(server: Running) -> None:
    asked(server)
    with server.openai() as client:
        list(client.chat.completions.create(model="either", messages=ASK, stream=True))
    assert counts(server)["decisions"] == (1, 1)


def test_composites_decide_for_themselves(server: Running) -> None:
    asked(server)
    assert kept_steps(asked(server, model="loyal")) == ["retrieve"]


def test_new_champion_decides_anew(server: Running, furnished: Settings) -> None:
    assert [routed(server), routed(server)] == ["far", "far"]
    crown_router(furnished, {"far": 0.2, "near": 0.9})
    assert server.parts.served.refresh()
    assert kept_steps(answer := asked(server)) == ["retrieve"]
    assert (answer["model_metadata"]["route"]["model"], kept_steps(asked(server))[0]) == ("near", "classify")
    crown_classifier(furnished)
    assert server.parts.served.refresh()
    answer = asked(server)
    assert answer["model_metadata"]["task"]["classifier"] == "classifier-2"
    assert kept_steps(answer) == ["retrieve"]


def test_changed_catalogue_decides_anew(server: Running, furnished: Settings) -> None:
    crown_router(furnished, {"far": 0.2, "near": 0.9})
    assert [routed(server), routed(server)] == ["near", "near"]
    server.parts.manager.disable("model", "near")
    assert server.parts.served.refresh()
    assert routed(server) == "far"
    server.parts.manager.enable("model", "near")
    server.parts.manager.update("composite", "either", {"cost_weight": 100_000.0})
    server.parts.manager.update("model", "near", {"input": 50.0, "output": 50.0})
    assert server.parts.served.refresh()
    assert routed(server) == "far"


def test_new_index_is_searched_anew(server: Running, furnished: Settings) -> None:
    assert [asked(server)["rag_sources"][0]["document"] for _ in range(2)] == ["flexbox"] * 2
    publish(Index.build([parse_document("grid", "# Grid\n\nUse a grid to centre a div.\n")]), furnished)
    assert server.parts.served.refresh()
    answer = asked(server)
    assert [passage["document"] for passage in answer["rag_sources"]] == ["grid"]
    assert kept_steps(answer) == []


def test_request_that_began_before_a_change_leaves_nothing_for_those_after_it(
    server: Running, furnished: Settings
) -> None:
    asked(server)
    old = server.parts.served.get("either")
    crown_router(furnished, {"far": 0.2, "near": 0.9})
    assert server.parts.served.refresh()
    assert old.plan(Message.of("Another question")).route.model == "far"
    assert routed(server, messages=[{"role": "user", "content": "Another question"}]) == "near"


def test_conversation_of_one_key_is_not_another_keys(furnished: Settings) -> None:
    crown_router(furnished, {"far": 0.9, "near": 0.2}, cost_weight=0.0)
    with running(furnished.model_copy(update={"auth": "keys"})) as server:
        one, other = server.key(), server.key()
        asked(server, one, model="loyal", messages=follow_up("")[:1])
        crown("router", "6", router({"far": 0.2, "near": 0.9}).state(), furnished)
        assert server.parts.served.refresh()
        mine = asked(server, one, model="loyal", messages=follow_up("go on"))
        theirs = asked(server, other, model="loyal", messages=follow_up("go on"))
        assert mine["model_metadata"]["route"]["model"] == "far"
        assert theirs["model_metadata"]["route"]["model"] == "near"
        assert kept_steps(theirs) == ["classify", "route", "retrieve"]
