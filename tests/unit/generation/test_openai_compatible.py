from __future__ import annotations

import pytest

from modelyard.catalog import BaseModel, Price
from modelyard.errors import GenerationError, InvalidSetting
from modelyard.generation.base import Generator
from modelyard.generation.openai_compatible import OpenAICompatible
from modelyard.generation.prompting import with_sources
from modelyard.types import Delta, Draft, Message, Passage, Turn, Usage
from modelyard.upstream import Retries, Upstream
from tests.unit.upstream.openai_server import DONE, answers, chunk, openai_server, refuses, streams, usage_chunk

ASK = Message.of("How do I centre a div?")
FLEX = Passage("css/flex.md", "Flexbox", "Use flexbox.", 0, 12, 2.0)
GRID = Passage("css/grid.md", "Grid", "Use grid.", 0, 9, 1.0)


def model(base_url: str | None) -> BaseModel:
    return BaseModel("gpt", "openai", Price(input=2.0, output=10.0, request=0.5), base_url=base_url)


def generator(base_url: str, client: Upstream) -> Generator:
    return OpenAICompatible(model(base_url), client)


async def test_draft_carries_the_upstreams_usage_and_the_catalogues_price() -> None:
    async with openai_server(answers("Use [2].", usage=(1000, 100))) as server, Upstream() as client:
        draft = await generator(server.base_url, client).generate(ASK, (FLEX, GRID))
    assert draft.usage == Usage(1000, 100, 0.5 + 0.002 + 0.001, estimated=False)
    assert (draft.text, draft.model, draft.finish_reason) == ("Use [2].", "gpt", "stop")
    assert [(passage.document, passage.cited) for passage in draft.cited] == [("css/grid.md", True)]


async def test_usage_that_the_upstream_does_not_report_is_estimated_and_says_so() -> None:
    async with openai_server(answers("12345678", usage=None)) as server, Upstream() as client:
        draft = await generator(server.base_url, client).generate(Message.of("1234"), ())
    assert draft.usage == Usage(5, 2, pytest.approx(0.5 + 10e-6 + 20e-6), estimated=True)


async def test_sources_stand_numbered_in_one_system_message() -> None:
    asked = Message((Turn("system", "Be brief."), Turn("user", "Hi")))
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        await generator(server.base_url, client).generate(asked, (FLEX, GRID))
    system, user = server.bodies[0]["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nUse the numbered sources")
    assert system["content"].endswith("[1] Flexbox\nUse flexbox.\n\n[2] Grid\nUse grid.")
    assert user == {"role": "user", "content": "Hi"}


def test_conversation_without_passages_stays_as_it_is() -> None:
    assert with_sources(ASK.turns, ()) == ASK.turns


@pytest.mark.parametrize(
    ("text", "numbers"), [("[1, 2]", [1, 2]), ("[2] and [2]", [2]), ("[3] [0] [x] 1", []), ("a[1]", [1])]
)
async def test_citations_are_the_marked_passages(text: str, numbers: list[int]) -> None:
    async with openai_server(answers(text)) as server, Upstream() as client:
        draft = await generator(server.base_url, client).generate(ASK, (FLEX, GRID))
    assert [(FLEX.title, GRID.title).index(passage.title) + 1 for passage in draft.cited] == numbers


async def test_stream_ends_with_the_draft() -> None:
    behaviour = streams(chunk("Use "), chunk("[1]."), chunk(finish_reason="length"), usage_chunk(10, 4), DONE)
    async with openai_server(behaviour) as server, Upstream() as client:
        *pieces, draft = [piece async for piece in generator(server.base_url, client).stream(ASK, (FLEX,))]
    assert pieces == [Delta("Use "), Delta("[1].")]
    assert isinstance(draft, Draft)
    assert (draft.text, draft.finish_reason, draft.usage.estimated) == ("Use [1].", "length", False)
    assert len(draft.cited) == 1


@pytest.mark.parametrize("behaviour", [refuses(500), streams(chunk("Use "))])
async def test_upstream_failures_are_generation_errors(behaviour) -> None:
    async with openai_server(behaviour) as server, Upstream(retries=Retries(attempts=1)) as client:
        with pytest.raises(GenerationError, match="The model 'gpt'"):
            _ = [piece async for piece in generator(server.base_url, client).stream(ASK, ())]


def test_model_without_base_url_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="gives the model 'gpt' no base_url"):
        OpenAICompatible(model(None), Upstream())
