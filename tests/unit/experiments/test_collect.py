"""Collecting outcomes: what is paid for, what is kept, and what happens when something fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tqdm import tqdm

from eval_sets import Fact, TaskRow, TaskSet
from experiments.collect import GIVE_UP_AFTER, Budget, Collection, Collector, calls_for, outcome_table
from experiments.journal import Entry, Journal
from modelyard.catalog import BaseModel, Price
from modelyard.errors import BudgetExceeded, GenerationError, InvalidInput, UpstreamError
from modelyard.types import Draft, Message, Passage, Usage

CHEAP = BaseModel("cheap", "openai", Price(request=0.01), base_url="http://localhost/v1")
DEAR = BaseModel("dear", "openai", Price(request=1.0), base_url="http://localhost/v1")
ROWS = tuple(TaskRow(f"t-{k}", f"prompt number {k}", "chat", "simple", facts=(Fact(f"answer {k}"),)) for k in range(6))
TASKS = TaskSet("mine", (*ROWS, TaskRow("t-open", "how are you", "chat", "simple")))


@dataclass
class Fake:
    """Answers every prompt at the model's price; fails on the prompts it is told to."""

    model: BaseModel
    fails_on: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def name(self) -> str:
        return self.model.name

    async def generate(self, message: Message, passages: Sequence[Passage]) -> Draft:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        self.calls.append(message.prompt)
        if message.prompt in self.fails_on:
            raise UpstreamError("The model is away.", status=503, retryable=True)
        text = message.prompt.replace("prompt number", "the answer")
        return Draft(text, self.name, Usage(3, 4, self.model.price.request))

    def stream(self, message: Message, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        raise NotImplementedError


async def collect(
    path: Path, fakes: Sequence[Fake], *, ceiling: float | None = None, concurrency: int = 3, context: str = ""
) -> Collection:
    calls = calls_for(TASKS, [fake.model for fake in fakes], context)
    with Journal(path) as journal, tqdm(total=len(calls), disable=True) as progress:
        collector = Collector({fake.name: fake for fake in fakes}, lambda _: (), journal, ceiling)
        return await collector.run(calls, concurrency, progress)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outcomes.parquet.journal.jsonl"


async def test_every_checkable_prompt_is_put_to_every_model_once(path: Path) -> None:
    cheap, dear = Fake(CHEAP), Fake(DEAR)
    found = await collect(path, [cheap, dear])
    assert Counter(cheap.calls) == Counter(dear.calls) == Counter(row.prompt for row in ROWS)
    assert [(entry.prompt_id, entry.model) for entry in found.entries][:3] == [
        ("t-0", "cheap"),
        ("t-0", "dear"),
        ("t-1", "cheap"),
    ]
    assert found.spent_usd == pytest.approx(6.06)
    assert (found.failures, found.resumed, found.stopped) == ([], 0, None)


async def test_second_run_pays_nothing(path: Path) -> None:
    await collect(path, [Fake(CHEAP)])
    again = Fake(CHEAP)
    found = await collect(path, [again])
    assert again.calls == []
    assert (len(found.entries), found.resumed, found.spent_usd) == (6, 6, 0.0)


@pytest.mark.parametrize("change", [{"price": Price(request=0.02)}, {"upstream_model": "cheap-2026"}])
async def test_another_price_or_model_behind_the_name_is_another_call(path: Path, change: dict[str, object]) -> None:
    await collect(path, [Fake(CHEAP)])
    changed = Fake(replace(CHEAP, **change))
    assert len((await collect(path, [changed])).entries) == len(changed.calls) == 6


async def test_another_retrieval_index_is_another_call(path: Path) -> None:
    await collect(path, [Fake(CHEAP)], context="index-1")
    changed = Fake(CHEAP)
    await collect(path, [changed], context="index-2")
    assert len(changed.calls) == 6


async def test_calls_at_a_time_are_bounded(path: Path) -> None:
    fake = Fake(CHEAP)
    await collect(path, [fake], concurrency=2)
    assert fake.most_at_once == 2


async def test_failed_call_is_reported_and_tried_again_by_the_next_run(path: Path) -> None:
    found = await collect(path, [Fake(CHEAP, fails_on={"prompt number 2"})])
    assert [(failure.prompt_id, failure.model, failure.reason) for failure in found.failures] == [
        ("t-2", "cheap", "The model is away.")
    ]
    assert len(found.entries) == 5
    healthy = Fake(CHEAP)
    assert len((await collect(path, [healthy])).entries) == 6
    assert healthy.calls == ["prompt number 2"]


async def test_model_that_only_fails_is_not_called_for_ever(path: Path) -> None:
    rows = tuple(TaskRow(f"t-{k}", f"p {k}", "chat", "simple", facts=(Fact("x"),)) for k in range(GIVE_UP_AFTER + 5))
    fake = Fake(CHEAP, fails_on={row.prompt for row in rows})
    calls = calls_for(TaskSet("long", rows), [CHEAP])
    with Journal(path) as journal, tqdm(total=len(calls), disable=True) as progress:
        found = await Collector({"cheap": fake}, lambda _: (), journal).run(calls, 1, progress)
    assert len(fake.calls) == GIVE_UP_AFTER
    assert len(found.failures) == len(rows)
    assert "was not called after 20 failures in a row" in found.failures[-1].reason


async def test_ceiling_stops_before_the_call_that_would_pass_it_and_keeps_what_was_paid_for(path: Path) -> None:
    fake = Fake(DEAR)
    found = await collect(path, [fake], ceiling=2.5)
    assert isinstance(found.stopped, BudgetExceeded)
    assert "2.5 USD" in str(found.stopped)
    assert len(found.entries) == len(fake.calls) == 2
    assert found.spent_usd == pytest.approx(2.0)


async def test_ceiling_counts_what_earlier_runs_paid(path: Path) -> None:
    await collect(path, [Fake(DEAR)], ceiling=2.0)
    more = Fake(DEAR)
    found = await collect(path, [more], ceiling=3.0)
    assert len(more.calls) == 1
    assert (found.resumed, len(found.entries)) == (2, 3)


async def test_what_is_set_aside_for_calls_under_way_is_given_back_before_the_run_is_stopped() -> None:
    budget = Budget(1.0)
    await budget.reserve(0.8)
    waiting = asyncio.create_task(budget.reserve(0.8))
    await asyncio.sleep(0)
    assert not waiting.done()
    await budget.settle(0.8, 0.1)
    await waiting
    await budget.settle(0.8, 0.8)
    with pytest.raises(BudgetExceeded, match=r"0\.900000 of the ceiling of 1 USD"):
        await budget.reserve(0.2)


async def test_journal_survives_a_line_that_was_cut_off(path: Path) -> None:
    await collect(path, [Fake(CHEAP)])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"prompt_id") + 4])
    again = Fake(CHEAP)
    assert len((await collect(path, [again])).entries) == 6
    assert len(again.calls) == 1
    assert len(path.read_bytes().splitlines()) == 6


async def test_damaged_line_in_the_middle_is_named(path: Path) -> None:
    await collect(path, [Fake(CHEAP)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{}\n", *lines[1:]]))
    with pytest.raises(InvalidInput, match=r"journal\.jsonl, row 2 is damaged"):
        await collect(path, [Fake(CHEAP)])


async def test_two_collections_do_not_write_to_one_journal(path: Path) -> None:
    with Journal(path), pytest.raises(InvalidInput, match="Another collection is writing"):
        await collect(path, [Fake(CHEAP)])


async def test_unexpected_error_ends_the_run_and_keeps_what_was_finished(path: Path) -> None:
    class Broken(Fake):
        async def generate(self, message: Message, passages: Sequence[Passage]) -> Draft:
            if message.prompt.endswith("3"):
                raise RuntimeError("a bug")
            return await super().generate(message, passages)

    with pytest.raises(ExceptionGroup) as caught:
        await collect(path, [Broken(CHEAP)], concurrency=1)
    assert caught.group_contains(RuntimeError, match="a bug")
    assert len(path.read_bytes().splitlines()) == 3


def test_local_models_are_called_before_those_behind_an_endpoint() -> None:
    local = BaseModel("local", "local", Price(), method="sentence")
    assert [call.model.name for call in calls_for(TASKS, [CHEAP, local])] == ["local"] * 6 + ["cheap"] * 6


def test_runs_without_models_or_checkable_prompts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no model"):
        calls_for(TASKS, [])
    with pytest.raises(InvalidInput, match="None of the 1 prompts of open has facts"):
        calls_for(TaskSet("open", TASKS.rows[-1:]), [CHEAP])


def test_outcome_table_holds_score_and_measurements() -> None:
    def entry(prompt_id: str, text: str) -> Entry:
        return Entry(TASKS.version, prompt_id, "cheap", "f", text, "stop", 0.01, 12.0, 3, 4)

    table = outcome_table(TASKS, [entry("t-0", "The ANSWER 0."), entry("t-1", "no"), entry("t-open", "fine")], "here")
    rows = table.to_pylist()
    assert [(row["prompt_id"], row["score"]) for row in rows] == [("t-0", 1.0), ("t-1", 0.0)]
    assert (rows[0]["dataset"], rows[0]["domain"], rows[0]["cost_usd"], rows[0]["latency_ms"]) == (
        "mine",
        "chat",
        0.01,
        12.0,
    )
    assert (rows[0]["output_chars"], rows[0]["response"]) == (13.0, "The ANSWER 0.")


async def test_generation_errors_cost_nothing(path: Path) -> None:
    found = await collect(path, [Fake(DEAR, fails_on={row.prompt for row in ROWS})], ceiling=1.0)
    assert (found.spent_usd, found.stopped, len(found.failures)) == (0.0, None, 6)
    assert issubclass(UpstreamError, GenerationError)
