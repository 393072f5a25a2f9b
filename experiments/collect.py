"""Runs base models over an eval set: concurrently, within a budget, and never paying twice for what is in the journal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from eval_sets import TaskRow, TaskSet
from experiments.journal import Entry, Journal, Key
from experiments.scoring import score_answer
from modelyard.catalog import BaseModel, estimate_tokens
from modelyard.errors import BudgetExceeded, GenerationError, InvalidInput
from modelyard.generation import Generator
from modelyard.outcomes import SCHEMA, validate
from modelyard.types import Message, Passage

GIVE_UP_AFTER: Final = 20  # failures of a model in a row, after which it is not called again in this run

Retrieve = Callable[[str], Sequence[Passage]]


class Progress(Protocol):
    """A progress bar, such as tqdm's."""

    def update(self, n: int = 1) -> object:
        """Move on by n calls."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One prompt for one model."""

    row: TaskRow
    model: BaseModel
    key: Key


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no answer: data, to be tried again by the next run."""

    prompt_id: str
    model: str
    reason: str


@dataclass(slots=True)
class Collection:
    """What a run came to: the entries of all its calls, earlier runs' included.

    Attributes:
        entries: Answers in the order of the calls.
        failures: Calls without one.
        resumed: How many entries earlier runs had paid for.
        spent_usd: Cost of the entries that this run paid for.
        stopped: Why it ended before all calls were made, or None.
    """

    entries: list[Entry] = field(default_factory=list[Entry])
    failures: list[Failure] = field(default_factory=list[Failure])
    resumed: int = 0
    spent_usd: float = 0.0
    stopped: BudgetExceeded | None = None


class Budget:
    """A ceiling in USD. What calls under way are expected to cost is set aside; what they did cost replaces it."""

    def __init__(self, ceiling_usd: float | None, spent_usd: float = 0.0) -> None:
        self.spent_usd = spent_usd
        self._ceiling = ceiling_usd
        self._reserved = 0.0
        self._settled = asyncio.Condition()

    async def reserve(self, expected_usd: float) -> None:
        """Set an amount aside, after waiting for calls under way where only these stand in the way.

        Raises:
            BudgetExceeded: The amount does not fit below the ceiling.
        """
        async with self._settled:
            while self._ceiling is not None and self.spent_usd + self._reserved + expected_usd > self._ceiling:
                if not self._reserved:
                    raise BudgetExceeded(
                        f"The next call is expected to cost {expected_usd:.6f} USD, and {self.spent_usd:.6f} of the ceiling of "
                        f"{self._ceiling:g} USD are spent; what was paid for is kept, and a run with a higher ceiling goes on from here."
                    )
                await self._settled.wait()
            self._reserved += expected_usd

    async def settle(self, expected_usd: float, cost_usd: float) -> None:
        """Replace an amount that was set aside by what the call cost."""
        async with self._settled:
            self._reserved = max(0.0, self._reserved - expected_usd)
            self.spent_usd += cost_usd
            self._settled.notify_all()


def calls_for(tasks: TaskSet, models: Sequence[BaseModel], context: str = "") -> tuple[Call, ...]:
    """Return the calls of a run: the checkable prompts in their order for every model, models in process first.

    Local models go first because they hold the event loop, which would count into the latency of calls over HTTP.

    Args:
        tasks: The eval set.
        models: Each once.
        context: What else shapes the answers, such as the version of the retrieval index.

    Raises:
        InvalidInput: There is no model, or none of the prompts can be checked.
    """
    if not models:
        raise InvalidInput("There is no model to collect outcomes of.")
    if not tasks.checkable:
        raise InvalidInput(f"None of the {len(tasks)} prompts of {tasks.name} has facts, so no answer could be scored.")
    version = tasks.version
    local = [model for model in models if model.kind == "local"]
    return tuple(
        Call(row, model, Key(version, row.id, model.name, fingerprint(model, context)))
        for group in (local, [model for model in models if model.kind != "local"])
        for row in tasks.checkable
        for model in group
    )


def fingerprint(model: BaseModel, context: str) -> str:
    """Hash what shapes a model's answers and their price: its catalogue entry and the context."""
    facts: dict[str, object] = {
        "name": model.name,
        "kind": model.kind,
        "price": {part: usd for part, usd in asdict(model.price).items() if usd is not None},
        "context_window": model.context_window,
        "method": model.method,
        "base_url": model.base_url,
        "upstream_model": model.upstream_model,
    }
    if model.deployments and model.base_url is None:
        facts["deployments"] = sorted([found.base_url, found.upstream_model or ""] for found in model.deployments)
    return hashlib.sha256(json.dumps([facts, context], sort_keys=True).encode()).hexdigest()[:16]


class Collector:
    """Makes calls.

    Args:
        generators: One for each model's name.
        retrieve: Finds the passages that stand before a prompt.
        journal: Open.
        max_cost_usd: Ceiling for all the run's calls together, those of earlier runs included; None: no ceiling.
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        retrieve: Retrieve,
        journal: Journal,
        max_cost_usd: float | None = None,
    ) -> None:
        self._generators = generators
        self._retrieve = retrieve
        self._journal = journal
        self._ceiling = max_cost_usd

    async def run(self, calls: Sequence[Call], concurrency: int, progress: Progress) -> Collection:
        """Make the calls that the journal lacks, at most `concurrency` at a time."""
        known = self._journal.entries
        pending = [call for call in calls if call.key not in known]
        found = Collection(resumed=len(calls) - len(pending))
        paid = sum(known[call.key].cost_usd for call in calls if call.key in known)
        budget = Budget(self._ceiling, paid)
        run = _Run(self._generators, self._retrieve, self._journal, budget, found, progress)
        progress.update(found.resumed)
        queue = iter(pending)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(pending))):
                group.create_task(run.work(queue))
        found.spent_usd = budget.spent_usd - paid
        found.entries = [self._journal.entries[call.key] for call in calls if call.key in self._journal.entries]
        return found


@dataclass(slots=True)
class _Run:
    generators: Mapping[str, Generator]
    retrieve: Retrieve
    journal: Journal
    budget: Budget
    found: Collection
    progress: Progress
    failing: Counter[str] = field(default_factory=Counter[str])

    async def work(self, queue: Iterator[Call]) -> None:
        """Take calls from the queue until it is empty or the money is."""
        for call in queue:
            if self.found.stopped is not None:
                return
            try:
                await self.make(call)
            except BudgetExceeded as stop:
                self.found.stopped = stop
                return
            except GenerationError as error:
                self.failing[call.model.name] += 1
                self.found.failures.append(Failure(call.row.id, call.model.name, error.in_full))
            self.progress.update(1)

    async def make(self, call: Call) -> None:
        """Make one call and write its answer down.

        Raises:
            BudgetExceeded: It does not fit below the ceiling; it was not made.
            GenerationError: It gave no answer.
        """
        if self.failing[call.model.name] >= GIVE_UP_AFTER:
            raise GenerationError(f"{call.model.name} was not called after {GIVE_UP_AFTER} failures in a row.")
        passages = self.retrieve(call.row.prompt)
        chars = len(call.row.prompt) + sum(len(passage.text) for passage in passages)
        expected = call.model.expected_cost(estimate_tokens(chars))
        await self.budget.reserve(expected)
        cost = 0.0
        try:
            start = time.perf_counter()
            draft = await self.generators[call.model.name].generate(Message.of(call.row.prompt), passages)
            latency = (time.perf_counter() - start) * 1000
            usage, cost = draft.usage, draft.usage.cost_usd
            answer = (draft.text, draft.finish_reason, cost, latency, usage.prompt_tokens, usage.completion_tokens)
            await self.journal.append(Entry(*call.key, *answer))
        finally:
            await self.budget.settle(expected, cost)
        self.failing[call.model.name] = 0


def outcome_table(tasks: TaskSet, entries: Sequence[Entry], where: str) -> pa.Table:
    """Score the answers and return them as an outcome table."""
    rows = {row.id: row for row in tasks}
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for entry in entries:
        row = rows[entry.prompt_id]
        score = score_answer(entry.text, [fact.pattern for fact in row.facts], row.complexity)
        if score is None:
            continue
        values = (row.id, tasks.name, row.domain, row.prompt, entry.model, score)
        measured = (entry.cost_usd, entry.latency_ms, float(len(entry.text)), entry.text)
        for name, value in zip(SCHEMA.names, (*values, *measured), strict=True):
            columns[name].append(value)
    return validate(pa.table(columns, schema=SCHEMA), where)
