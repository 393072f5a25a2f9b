from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from modelyard.catalog import Composite
from modelyard.composite import CompositeModel, Parts, merge_sources
from modelyard.errors import GenerationError
from modelyard.generation import Trail
from modelyard.retrieval import Index
from modelyard.routing import StaticPolicy
from modelyard.tasks import RuleClassifier
from modelyard.types import Answer, Delta, Draft, Message, Passage, Route, Usage
from tests.unit.retrieval.knowledge import knowledge
from tests.unit.routing.toy import MODELS

PROMPT = "why does an effect run twice in Strict Mode?"


class Quoting:
    """Cites the first passage that it is given."""

    name = "cheap"

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def draft(self, passages: Sequence[Passage]) -> Draft:
        return Draft("Strict Mode.", self.name, Usage(12, 3, 0.001), "length", tuple(passages[:1]))

    async def generate(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> Draft:
        if self.failure is not None:
            raise self.failure
        return self.draft(passages)

    async def stream(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> AsyncGenerator[Delta | Draft]:
        yield Delta("Strict ")
        if self.failure is not None:
            raise self.failure
        yield Delta("Mode.")
        yield self.draft(passages)


def composite(*, passages: int = 2, indexed: bool = True, failure: Exception | None = None) -> CompositeModel:
    spec = Composite("mine", "One model.", ("cheap",), "cheap", passages)
    index = Index.build(knowledge()) if indexed else None
    return CompositeModel(
        Parts(spec, MODELS[:1], RuleClassifier(), StaticPolicy("cheap"), index, Quoting(failure), ("Mind the gap.",))
    )


def passage(document: str, start: int, end: int) -> Passage:
    return Passage(document, document.title(), "x" * (end - start), start, end, 1.0)


def test_answer_reports_every_stage_in_order() -> None:
    answer = composite().ask(PROMPT)

    assert [step.name for step in answer.steps] == ["classify", "route", "retrieve", "generate", "post-process"]
    assert {step.status for step in answer.steps} == {"ran"}
    assert all(step.reason and step.ms >= 0.0 for step in answer.steps)


def test_answer_carries_draft_notices_and_versions() -> None:
    model = composite()
    answer = model.ask(PROMPT)

    assert (answer.text, answer.finish_reason, answer.usage) == ("Strict Mode.", "length", Usage(12, 3, 0.001))
    assert answer.notices == ("Mind the gap.",)
    assert answer.versions == model.parts.versions
    assert model.parts.index is not None
    assert answer.versions.index == model.parts.index.version
    assert model.name == "mine"


def test_passages_come_with_the_cited_one_marked() -> None:
    answer = composite().ask(PROMPT)

    assert [source.cited for source in answer.passages] == [True, False]
    assert answer.passages[0].document == "effects"
    assert answer.steps[-1].reason == "1 of 2 sources cited"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"indexed": False}, "no knowledge base was built"), ({"passages": 0}, "the composite asks for no passages")],
)
def test_skipped_retrieval_says_why(options: dict[str, int], reason: str) -> None:
    answer = composite(**options).ask(PROMPT)  # type: ignore[arg-type]
    step = answer.steps[2]

    assert (step.name, step.status, step.reason) == ("retrieve", "skipped", reason)
    assert answer.passages == ()


async def test_stream_gives_the_text_in_pieces_and_the_answer_last() -> None:
    *pieces, answer = [piece async for piece in composite().stream(Message.of(PROMPT))]

    assert isinstance(answer, Answer)
    assert pieces == [Delta("Strict "), Delta("Mode.")]
    assert answer.text == "Strict Mode."
    assert [step.name for step in answer.steps][-2:] == ["generate", "post-process"]


async def test_stream_that_breaks_off_raises_after_its_first_piece() -> None:
    pieces: list[object] = []
    with pytest.raises(GenerationError, match="gone"):
        async for piece in composite(failure=GenerationError("It is gone.")).stream(Message.of(PROMPT)):
            pieces.append(piece)

    assert pieces == [Delta("Strict ")]


async def test_failed_generation_is_raised_and_not_answered() -> None:
    with pytest.raises(GenerationError, match="gone"):
        await composite(failure=GenerationError("It is gone.")).answer(Message.of(PROMPT))


def test_plan_generates_nothing() -> None:
    plan = composite(failure=AssertionError("generated")).plan(Message.of(PROMPT))

    assert [step.name for step in plan.steps] == ["classify", "route", "retrieve"]
    assert plan.route.model == "cheap"


@pytest.mark.parametrize("prompt", ["", "☂", "x" * 30_000])
def test_any_prompt_is_answered(prompt: str) -> None:
    assert composite().ask(prompt).text


def test_every_answer_has_an_id_of_its_own() -> None:
    model = composite()

    assert model.ask(PROMPT).id != model.ask(PROMPT).id


def test_cited_span_marks_the_passage_that_holds_it() -> None:
    sources = merge_sources([passage("a", 0, 10), passage("a", 10, 20), passage("b", 0, 10)], [passage("a", 12, 15)])

    assert [source.cited for source in sources] == [False, True, False]


def test_cited_span_from_elsewhere_stands_behind_the_retrieved_passages() -> None:
    sources = merge_sources([passage("a", 0, 10)], [passage("a", 10, 15), passage("c", 3, 4)])

    assert [(source.document, source.start, source.cited) for source in sources] == [
        ("a", 0, False),
        ("a", 10, True),
        ("c", 3, True),
    ]


def test_nothing_retrieved_and_nothing_cited_gives_no_sources() -> None:
    assert merge_sources([], []) == ()
