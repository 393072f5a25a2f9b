"""A composite model: the whole request, from message to answer.

Message -> Task -> Route -> Passages -> Draft -> Answer
classify  route   retrieve   generate  post-process
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from modelyard.catalog import BaseModel, Composite
from modelyard.generation import Generator
from modelyard.retrieval import Index
from modelyard.routing import RoutingPolicy
from modelyard.tasks import Classifier
from modelyard.types import Answer, Draft, Message, Passage, Route, StepReport, StepStatus, Task, Versions, new_id

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a composite is made of.

    Attributes:
        spec: The catalogue's entry.
        models: The candidates, in the spec's order.
        classifier: Reads the task.
        policy: Chooses the model.
        index: Finds passages; None where no knowledge base was built.
        generators: A generator for each candidate, by name.
        notices: What every answer must say, such as that no champion is registered.
    """

    spec: Composite
    models: tuple[BaseModel, ...]
    classifier: Classifier
    policy: RoutingPolicy
    index: Index | None
    generators: Mapping[str, Generator]
    notices: tuple[str, ...] = ()

    @property
    def versions(self) -> Versions:
        """Return which versions will have made an answer."""
        index = self.index.version if self.index is not None else None
        return Versions(self.spec.name, self.classifier.version, self.policy.version, index)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a message is read and where it goes, before anything is generated."""

    task: Task
    route: Route
    passages: tuple[Passage, ...]
    steps: tuple[StepReport, ...]


@dataclass(slots=True)
class _Steps:
    """Collects the report of each stage."""

    reports: list[StepReport] = field(default_factory=list[StepReport])

    def run(self, name: str, stage: Callable[[], _Result], say: Callable[[_Result], str]) -> _Result:
        started = time.perf_counter()
        result = stage()
        self.add(name, "ran", say(result), started)
        return result

    def add(self, name: str, status: StepStatus, reason: str, started: float, changed: str = "") -> None:
        self.reports.append(StepReport(name, status, reason, (time.perf_counter() - started) * 1000, changed))


class CompositeModel:
    """Answers messages; safe to share between tasks, since nothing in it changes."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def name(self) -> str:
        """What an application asks for."""
        return self.parts.spec.name

    def plan(self, message: Message) -> Plan:
        """Classify, route and retrieve, without answering."""
        parts, steps = self.parts, _Steps()
        task = steps.run(
            "classify", lambda: parts.classifier.classify(message), lambda t: f"{t.domain}, {t.complexity}"
        )
        weight = parts.spec.cost_weight
        route = steps.run(
            "route", lambda: parts.policy.route(message, task, parts.models, cost_weight=weight), lambda r: r.reasons[0]
        )
        return Plan(task, route, self._retrieve(message, steps), tuple(steps.reports))

    async def answer(self, message: Message) -> Answer:
        """Answer a message.

        Raises:
            GenerationError: The chosen base model gave no usable draft.
        """
        plan = self.plan(message)
        started = time.perf_counter()
        draft = await self.parts.generators[plan.route.model].generate(message, plan.passages)
        return self._finish(plan, draft, started)

    async def stream(self, message: Message) -> AsyncGenerator[str | Answer]:
        """Yield pieces of text as they come and the whole `Answer` last.

        Raises:
            GenerationError: The chosen base model gave no usable draft, or it broke off.
        """
        plan = self.plan(message)
        started = time.perf_counter()
        async for piece in self.parts.generators[plan.route.model].stream(message, plan.passages):
            if isinstance(piece, Draft):
                yield self._finish(plan, piece, started)
            elif piece.text:
                yield piece.text

    def ask(self, prompt: str) -> Answer:
        """Answer a single prompt, for scripts and notebooks; inside a running event loop use `await answer(...)`."""
        return asyncio.run(self.answer(Message.of(prompt)))

    def _retrieve(self, message: Message, steps: _Steps) -> tuple[Passage, ...]:
        index, wanted = self.parts.index, self.parts.spec.passages
        if index is None or wanted == 0:
            reason = "the composite asks for no passages" if wanted == 0 else "no knowledge base was built"
            steps.add("retrieve", "skipped", reason, time.perf_counter())
            return ()
        return steps.run(
            "retrieve", lambda: index.search(message.prompt, wanted), lambda found: f"{len(found)} passages"
        )

    def _finish(self, plan: Plan, draft: Draft, started: float) -> Answer:
        steps = _Steps(list(plan.steps))
        tokens = f"{draft.usage.prompt_tokens} + {draft.usage.completion_tokens} tokens"
        steps.add("generate", "ran", f"{draft.model}, {tokens}, ${draft.usage.cost_usd:.6f}", started)
        passages = steps.run("post-process", lambda: merge_sources(plan.passages, draft.cited), _count_cited)
        return Answer(
            id=new_id("msg"),
            text=draft.text,
            task=plan.task,
            route=plan.route,
            passages=passages,
            usage=draft.usage,
            steps=tuple(steps.reports),
            versions=self.parts.versions,
            finish_reason=draft.finish_reason,
            notices=self.parts.notices,
        )


def merge_sources(retrieved: Sequence[Passage], cited: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the retrieved passages, those that hold a cited span marked as cited, and behind them what was cited from elsewhere."""
    marked = [replace(passage, cited=any(_holds(passage, other) for other in cited)) for passage in retrieved]
    elsewhere = [
        replace(other, cited=True) for other in cited if not any(_holds(passage, other) for passage in retrieved)
    ]
    return (*marked, *elsewhere)


def _holds(passage: Passage, other: Passage) -> bool:
    return passage.document == other.document and passage.start < other.end and other.start < passage.end


def _count_cited(passages: Sequence[Passage]) -> str:
    return f"{sum(passage.cited for passage in passages)} of {len(passages)} sources cited"
