from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest

from modelyard.catalog import BaseModel, Composite
from modelyard.catalog.records import Sticky
from modelyard.composite import CompositeModel, Parts
from modelyard.control.caches import Caches
from modelyard.control.memory import Memory
from modelyard.errors import GenerationError
from modelyard.generation import Trail
from modelyard.retrieval import Index
from modelyard.routing import CheapestPolicy, RoutingPolicy, StaticPolicy
from modelyard.routing.conversation import Conversations
from modelyard.tasks import RuleClassifier
from modelyard.types import Answer, Delta, Draft, Message, Passage, Route, Task, Turn, Usage
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


HOOK = "Write a React hook in TypeScript that debounces a value and cancels its timer on unmount"
LATER = Message((Turn("user", HOOK), Turn("assistant", "Strict Mode."), Turn("user", "ok thanks, go on")))


class Counting(RuleClassifier):
    """Counts what it is asked."""

    def __init__(self, version: str = "rules-2") -> None:
        self.version, self.asked = version, 0

    def classify(self, message: Message) -> Task:
        self.asked += 1
        return super().classify(message)


class Drawing(CheapestPolicy):
    """Draws its model, and says with which probability."""

    def __init__(self) -> None:
        self.drawn = 0

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        self.drawn += 1
        found = super().route(message, task, candidates, cost_weight=cost_weight)
        return replace(found, model=candidates[self.drawn % len(candidates)].name, propensity=0.5)


def remembering(
    *,
    caches: Caches | None = None,
    generation: int = 1,
    classifier: RuleClassifier | None = None,
    policy: RoutingPolicy | None = None,
    sticky: Sticky = "off",
) -> CompositeModel:
    """A composite of two models that keeps decisions and passages."""
    return CompositeModel(
        Parts(
            Composite("mine", "Two models.", ("cheap", "dear"), "cheap", 2, sticky=sticky),
            (MODELS[0], MODELS[2]),
            classifier or Counting(),
            policy or CheapestPolicy(),
            Index.build(knowledge()),
            Quoting(),
            conversations=Conversations(),
            memory=Memory(caches or Caches.sized(10), generation),
        )
    )


def test_last_turn_that_leans_is_routed_and_searched_as_what_it_leans_on() -> None:
    model = composite()
    alone, later = model.plan(Message.of(HOOK)), model.plan(LATER)

    assert (later.task.domain, later.task.complexity) == (alone.task.domain, alone.task.complexity)
    assert later.task.tokens > alone.task.tokens
    assert [passage.document for passage in later.passages] == [passage.document for passage in alone.passages]
    assert later.route.reasons[-1].startswith("the last turn leans on what was said before")
    assert "leans" in later.steps[0].reason


def test_single_prompt_is_routed_without_a_word_about_a_conversation() -> None:
    plan = composite().plan(Message.of("thanks"))

    assert plan.route.reasons == ("the static policy always takes cheap",)
    assert plan.steps[0].reason == f"{plan.task.domain}, {plan.task.complexity}"


def test_same_reading_is_decided_and_searched_once_and_says_so() -> None:
    classifier = Counting()
    model = remembering(classifier=classifier)
    first, second = model.plan(Message.of(PROMPT)), model.plan(Message.of(PROMPT))

    assert classifier.asked == 1
    assert (second.task, second.route, second.passages) == (first.task, first.route, first.passages)
    assert [step.reason.endswith("; kept from an earlier request") for step in first.steps] == [False] * 3
    assert [step.reason.endswith("; kept from an earlier request") for step in second.steps] == [True] * 3
    caches = model.parts.memory.caches
    assert [(c.hits, c.misses) for c in (caches.decisions.stats(), caches.passages.stats())] == [(1, 1), (1, 1)]


def test_composite_without_caches_decides_each_time() -> None:
    model = composite()

    assert [step.reason for step in model.plan(LATER).steps] == [step.reason for step in model.plan(LATER).steps]


@pytest.mark.parametrize(
    "other",
    [
        Message.of("why does an effect run twice in Strict Mode"),
        Message((Turn("system", "Be brief. " * 20), Turn("user", PROMPT))),
        Message((Turn("user", PROMPT),), parameters={"tools": [{"type": "function", "function": {"name": "look"}}]}),
        Message((Turn("user", PROMPT),), needs=frozenset({"json"})),
    ],
)
def test_other_text_length_or_needs_are_decided_anew(other: Message) -> None:
    classifier = Counting()
    model = remembering(classifier=classifier)
    model.plan(Message.of(PROMPT))
    model.plan(other)

    assert classifier.asked == 2


@pytest.mark.parametrize("changed", ["generation", "classifier", "router"])
def test_what_serves_next_decides_anew(changed: str) -> None:
    caches, next_one = Caches.sized(10), Counting("rules-3" if changed == "classifier" else "rules-2")
    remembering(caches=caches).plan(Message.of(PROMPT))
    policy = StaticPolicy("dear") if changed == "router" else CheapestPolicy()
    generation = 2 if changed == "generation" else 1
    plan = remembering(caches=caches, classifier=next_one, policy=policy, generation=generation).plan(
        Message.of(PROMPT)
    )

    assert next_one.asked == 1
    assert plan.route.model == ("dear" if changed == "router" else "cheap")


def test_decision_that_was_drawn_is_drawn_again() -> None:
    policy = Drawing()
    model = remembering(policy=policy)

    assert [model.plan(Message.of(PROMPT)).route.model for _ in range(4)] == ["dear", "cheap", "dear", "cheap"]
    assert policy.drawn == 4


def test_kept_decision_is_not_the_conversation_of_somebody_else() -> None:
    model = remembering(sticky="conversation")
    answer = replace(model.ask(HOOK), model="dear")
    model.remember(Message.of(HOOK), answer, owner="key-1")
    plans = {owner: model.plan(LATER, owner=owner) for owner in ("key-1", "key-2")}

    assert {owner: plan.route.model for owner, plan in plans.items()} == {"key-1": "dear", "key-2": "cheap"}
    assert plans["key-1"].steps[1].reason == "the conversation stays with dear"
    assert plans["key-2"].steps[1].reason.endswith("; kept from an earlier request")
    assert model.plan(LATER, owner="key-1").route.model == "dear"


def test_named_conversation_stays_though_its_application_sends_one_turn_at_a_time() -> None:
    model = remembering(sticky="conversation")
    named = Message((Turn("user", HOOK),), conversation="c-1")
    model.remember(named, replace(model.ask(HOOK), model="dear"))

    assert model.plan(Message((Turn("user", PROMPT),), conversation="c-1")).route.model == "dear"
    assert model.plan(Message((Turn("user", PROMPT),), conversation="c-2")).route.model == "cheap"
