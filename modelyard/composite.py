"""A composite model: the whole request, from message to answer.

Message -> Task -> Route -> Passages -> Draft -> Answer
classify  route   retrieve   generate  post-process
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from modelyard.catalog import BaseModel, Composite
from modelyard.control.caches import Decision
from modelyard.control.memory import Memory
from modelyard.generation import Trail
from modelyard.retrieval import Index
from modelyard.retrieval.citing import count_cited, merge_sources
from modelyard.routing import RoutingPolicy
from modelyard.routing.conversation import Conversations
from modelyard.tasks import Classifier
from modelyard.tasks.length import message_tokens
from modelyard.tasks.reading import Reading, read
from modelyard.types import (
    Answer,
    Delta,
    Draft,
    Message,
    Passage,
    Route,
    StepReport,
    StepStatus,
    Task,
    Versions,
    fell_back,
)

_Result = TypeVar("_Result")


class Drafter(Protocol):
    """What gets a draft for a routed message; see `modelyard.generation.Dispatcher`."""

    async def generate(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> Draft:
        """Draft an answer."""
        ...

    def stream(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> AsyncGenerator[Delta | Draft]:
        """Yield pieces as they come and the whole `Draft` last."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a composite is made of.

    Attributes:
        spec: The catalogue's entry.
        models: The candidates, in the spec's order.
        classifier: Reads the task.
        policy: Chooses the model.
        index: Finds passages; None where no knowledge base was built.
        dispatcher: Drafts answers with the candidates, and falls back where one fails.
        notices: What every answer must say, such as that no champion is registered.
        conversations: Which model answered each conversation last; None forgets them.
        fallbacks: Models that may be called where all candidates fail.
        memory: What was decided and found for other requests; nothing, where none is given.
    """

    spec: Composite
    models: tuple[BaseModel, ...]
    classifier: Classifier
    policy: RoutingPolicy
    index: Index | None
    dispatcher: Drafter
    notices: tuple[str, ...] = ()
    conversations: Conversations | None = None
    fallbacks: tuple[BaseModel, ...] = ()
    memory: Memory = field(default_factory=Memory)

    @property
    def callable_models(self) -> tuple[BaseModel, ...]:
        """Every model that may answer."""
        return (*self.models, *self.fallbacks)

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

    def plan(self, message: Message, *, owner: str = "") -> Plan:
        """Classify, route and retrieve, without answering.

        Args:
            message: The conversation.
            owner: Whose conversation it is, such as an API key's id.
        """
        parts, steps, reading = self.parts, _Steps(), read(message)
        key = parts.memory.decision_key(reading.subject, message_tokens(message), message.needs, parts.versions)
        kept = parts.memory.decision(key)
        task = steps.run(
            "classify",
            lambda: parts.classifier.classify(message) if kept is None else kept.task,
            lambda t: _told(f"{t.domain}, {t.complexity}", kept, reading.reason),
        )

        def route() -> Route:
            chosen = self._choose(message, task, key) if kept is None else kept.route
            return self._in_conversation(chosen, message, reading, owner)

        chosen = steps.run("route", route, lambda r: _told(r.reasons[0], kept))
        return Plan(task, chosen, self._retrieve(reading.text, steps), tuple(steps.reports))

    async def answer(self, message: Message, plan: Plan | None = None, trail: Trail | None = None) -> Answer:
        """Answer a message.

        Args:
            message: The conversation.
            plan: From `plan(message)`, where that was called before.
            trail: Filled in as base models are called, so that their calls are known even where there is no answer.

        Raises:
            InvalidInput: No candidate can answer this; ContextTooLong among them.
            UpstreamError: No base model gave a usable draft.
        """
        plan, trail = plan or self.plan(message), trail or Trail()
        started = time.perf_counter()
        parts = self.parts
        draft = await parts.dispatcher.generate(message, plan.route, plan.passages, parts.spec, trail=trail)
        return self._finish(message, plan, draft, trail, started)

    async def stream(
        self, message: Message, plan: Plan | None = None, trail: Trail | None = None
    ) -> AsyncGenerator[Delta | Answer]:
        """Yield pieces as they come and the whole `Answer` last; see `answer`.

        Raises:
            InvalidInput: No candidate can answer this; ContextTooLong among them.
            UpstreamError: No base model gave a usable draft, or it broke off after its first piece.
        """
        plan, trail = plan or self.plan(message), trail or Trail()
        started = time.perf_counter()
        parts = self.parts
        pieces = parts.dispatcher.stream(message, plan.route, plan.passages, parts.spec, trail=trail)
        try:
            async for piece in pieces:
                yield self._finish(message, plan, piece, trail, started) if isinstance(piece, Draft) else piece
        finally:
            await pieces.aclose()

    def ask(self, prompt: str) -> Answer:
        """Answer a single prompt, for scripts and notebooks; inside a running event loop use `await answer(...)`."""
        return asyncio.run(self.answer(Message.of(prompt)))

    def remember(self, message: Message, answer: Answer, *, owner: str = "") -> None:
        """Note which model answered, so that the conversation's next message can stay with it."""
        if self.parts.conversations is not None and len(self.parts.models) > 1:
            self.parts.conversations.remember(message, answer.model, answer.text, scope=owner)

    def _choose(self, message: Message, task: Task, key: bytes) -> Route:
        parts = self.parts
        route = parts.policy.route(message, task, parts.models, cost_weight=parts.spec.cost_weight)
        parts.memory.keep_decision(key, Decision(task, route))
        return route

    def _in_conversation(self, route: Route, message: Message, reading: Reading, owner: str) -> Route:
        """Weigh the conversation's model in; that is the caller's own, and never kept for others."""
        parts = self.parts
        if reading.reason is not None:
            route = replace(route, reasons=(*route.reasons, reading.reason))
        if parts.conversations is None:
            return route
        prices = {model.name: model.price for model in parts.models}
        return parts.conversations.adjust(route, message, parts.spec, prices, scope=owner)

    def _retrieve(self, query: str, steps: _Steps) -> tuple[Passage, ...]:
        index, wanted, memory = self.parts.index, self.parts.spec.passages, self.parts.memory
        if index is None or wanted == 0:
            reason = "the composite asks for no passages" if wanted == 0 else "no knowledge base was built"
            steps.add("retrieve", "skipped", reason, time.perf_counter())
            return ()
        kept = memory.passages(index.version, query, wanted)
        found = steps.run(
            "retrieve",
            lambda: index.search(query, wanted) if kept is None else kept,
            lambda found: _told(f"{len(found)} passages", kept),
        )
        if kept is None:
            memory.keep_passages(index.version, query, wanted, found)
        return found

    def _finish(self, message: Message, plan: Plan, draft: Draft, trail: Trail, started: float) -> Answer:
        steps = _Steps(list(plan.steps))
        # Another model than the chosen one had to answer: whoever looks at the answers should see those apart.
        replaced = fell_back(draft.attempts) and draft.model != draft.attempts[0].model
        status: StepStatus = "partial" if replaced else "ran"
        steps.add("generate", status, "; ".join((_account_of(draft), *trail.reasons)), started)
        passages = steps.run("post-process", lambda: merge_sources(plan.passages, draft.cited), count_cited)
        return Answer(
            id=message.id,
            text=draft.text,
            task=plan.task,
            route=plan.route,
            passages=passages,
            usage=draft.usage,
            steps=tuple(steps.reports),
            versions=self.parts.versions,
            finish_reason=draft.finish_reason,
            notices=self.parts.notices,
            model=draft.model,
            fields=draft.fields,
            attempts=draft.attempts,
            extras=draft.extras,
        )


def _told(what: str, kept: object | None, why: str | None = None) -> str:
    """Return a step's reason; whoever looks at its duration should know that the work was done for an earlier request."""
    return "; ".join(part for part in (what, why, None if kept is None else "kept from an earlier request") if part)


def _account_of(draft: Draft) -> str:
    usage = draft.usage
    account = f"{draft.model}, {usage.prompt_tokens} + {usage.completion_tokens} tokens, ${usage.cost_usd:.6f}"
    failed = [attempt for attempt in draft.attempts if attempt.outcome != "ok"]
    return account if not failed else f"{account}, after {len(failed)} failed calls ({failed[-1].reason})"
