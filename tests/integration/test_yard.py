"""The real composites, served and asked: a small knowledge base, no champions, and an upstream over TCP."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings
from modelyard.storage import Message, ModelUsage
from tests.integration.running import EXPLAIN, Running, running
from tests.unit.serving.yard import TEXT, stub_upstream

ASK: Any = [{"role": "user", "content": "How do I centre a box with flexbox?"}]
DOCUMENTS = {
    "flexbox": "# Flexbox\n\nUse flexbox with align-items and justify-content to centre a box.\n\nIt lays out one axis.",
    "grid": "# Grid\n\nUse grid for rows and columns.\n\nA grid lays out two axes at once.",
}
UPSTREAM = """
[models.far]
kind = "openai"
base_url = "{url}/v1"
upstream_model = "distant"
input = 1000000
output = 0

[composites.far-away]
description = "One model behind an endpoint."
candidates = ["far"]
fallback = "far"
"""


@pytest.fixture
def furnished(settings: Settings) -> Settings:
    publish(Index.build([parse_document(name, text) for name, text in DOCUMENTS.items()]), settings)
    return settings


@pytest.fixture
def server(furnished: Settings) -> Iterator[Running]:
    with running(furnished.model_copy(update={"probe_s": 0.0})) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with server.openai() as client:
        yield client


def talk(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def explained(answer: Any) -> Any:
    return answer.model_extra["modelyard"]


def test_auto_answers_from_the_knowledge_base_and_says_that_no_champion_serves(
    server: Running, client: openai.OpenAI
) -> None:
    answer = client.chat.completions.create(model="auto", messages=ASK, extra_body=EXPLAIN)
    about = explained(answer)["model_metadata"]
    assert "flexbox" in (answer.choices[0].message.content or "").lower()
    assert "No router is registered: the static policy chose the model." in about["notices"]
    assert (about["route"]["policy"], about["task"]["classifier"][:5]) == ("static", "rules")
    assert explained(answer)["rag_sources"][0]["document"] == "flexbox"
    assert [row.id for row in server.rows(Message)] == [answer.id]


@pytest.mark.parametrize("model", ["auto", "v0-1.5-md", "v0-1.5-lg", "local-sm", "local-md"])
def test_streamed_pieces_are_the_stored_answer(server: Running, client: openai.OpenAI, model: str) -> None:
    *pieces, closing = client.chat.completions.create(model=model, messages=ASK, stream=True, extra_body=EXPLAIN)
    [row], [usage] = server.rows(Message), server.rows(ModelUsage)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == row.answer
    assert (closing.id, row.composite, row.model) == (row.id, model, usage.model)
    if model.startswith("local-"):
        assert explained(closing)["model_metadata"]["route"]["model"] == model


def test_composites_and_base_models_are_listed(client: openai.OpenAI) -> None:
    listed = {model.id: (model.model_extra or {})["kind"] for model in client.models.list()}
    assert listed["auto"] == listed["v0-1.5-lg"] == "composite"
    assert listed["local-sm"] == "base"
    assert not [name for name in listed if name.startswith("gpt-")]


@pytest.mark.parametrize("model", ["gpt-4-0314", "nothing"])
def test_model_that_nothing_serves_is_not_found(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match=model):
        client.chat.completions.create(model=model, messages=ASK)


@pytest.mark.parametrize("stream", [True, False])
def test_composite_over_an_endpoint_answers_with_the_endpoints_usage(
    furnished: Settings, tmp_path: Path, stream: bool
) -> None:
    catalog = tmp_path / "own.toml"
    with stub_upstream() as far:
        catalog.write_text(UPSTREAM.format(url=far.url))
        settings = furnished.model_copy(update={"catalog": catalog, "probe_s": 0.0})
        with running(settings) as server, server.openai() as client:
            if stream:
                *pieces, last = client.chat.completions.create(
                    model="far-away", messages=ASK, stream=True, extra_body=EXPLAIN
                )
                text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
            else:
                last = client.chat.completions.create(model="far-away", messages=ASK, extra_body=EXPLAIN)
                text = last.choices[0].message.content
    assert text == TEXT
    usage = explained(last)["model_metadata"]["usage"]
    assert usage == {
        "prompt_tokens": 10, "completion_tokens": 4, "cached_tokens": 0, "cost_usd": 10.0, "estimated": False,
    }  # fmt: skip
    [sent] = far.bodies
    assert sent["model"] == "distant"
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user"]
    assert "[1] Flexbox" in sent["messages"][0]["content"]


def test_serve_command_listens_and_stops_on_a_signal(furnished: Settings) -> None:
    command = "from modelyard.cli import main; raise SystemExit(main(['serve', '--port', '0']))"
    with subprocess.Popen(
        [sys.executable, "-c", command],
        env={"MODELYARD_HOME": str(furnished.home), "PATH": ""},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                break
        else:
            pytest.fail(f"the server did not come up: {said}")
        with talk(found.group(1)) as client:
            assert client.chat.completions.create(model="auto", messages=ASK).choices[0].message.content
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(30) in {0, -signal.SIGTERM}
        assert "Traceback" not in said
