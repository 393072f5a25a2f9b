"""What it costs to keep the books of a request: `pytest benchmarks/test_books.py --benchmark-enable`.

Bars, in CPU time a request: begin and finish in the spool < 40 µs, spool to SQLite < 100 µs in batches of hundreds.
The rows are those of a short answer: a prompt of 80 characters, an answer of 100, 18 domains, two candidates, one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelyard.composite import Plan
from modelyard.serving.books import Caller, Entry
from modelyard.storage import Database
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from modelyard.tasks.rules import RuleClassifier
from modelyard.types import Answer, Attempt, Candidate, Message, Route, StepReport, Turn, Usage, Versions, new_id

REQUESTS = 400  # of one round
PROMPT = "How do I keep a table's header in place while its body scrolls, without scripts?"
TEXT = "Give the header cells `position: sticky` and `top: 0`, and let the wrapper scroll: `overflow: auto`."
ROUTE = Route(
    "md",
    (Candidate("md", 0.78, 0.00012), Candidate("lg", 0.86, 0.0021)),
    "router-5",
    ("md is predicted 0.78 at 0.00012 USD", "the best score of 2 candidates"),
    0.81,
    cost_weight=100.0,
)
STEPS = (
    StepReport("classify", "ran", "css, simple, of 20 tokens", 0.0712),
    StepReport("route", "ran", "md: the best score of 2 candidates", 0.0523),
    StepReport("retrieve", "skipped", "the composite has no index", 0.0011),
    StepReport("generate", "ran", "md wrote 25 tokens", 412.77),
    StepReport("post-process", "ran", "nothing was changed", 0.0214),
)
USAGE = Usage(21, 25, 0.000118, estimated=False)
CALLER = Caller(
    "01J9ZK3V7M4Q8X2T5B6N0C1D2E", "01J9ZK3V7M4Q8X2T5B6N0C1D2F", None, "req-0198f2c07b7a4d3c8e5f6a7b8c9d0e1f"
)
Made = tuple[str, Mapping[str, Any], Mapping[str, Any]]


class Taken:
    """A sink that keeps what one request hands over."""

    def begin(self, id: str, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    def finish(self, id: str, rows: Mapping[str, Any]) -> None:
        self.rows = rows


def requests(count: int = REQUESTS) -> list[Made]:
    """Make the rows of so many requests, as the server makes them."""
    task = RuleClassifier().classify(Message.of(PROMPT))
    plan, made = Plan(task, ROUTE, (), STEPS[:3]), []
    for _ in range(count):
        taken, message = Taken(), Message((Turn("user", PROMPT),), id=new_id("msg"))
        entry = Entry(taken, CALLER, "auto", message, store_texts=True)
        entry.begin(plan, USAGE)
        attempts = (Attempt("md", "md/one", "ok", "the least busy of 1", 412.5, 200, USAGE),)
        versions = Versions("auto", "classifier-2", "router-5")
        entry.answered(plan, Answer(message.id, TEXT, task, ROUTE, (), USAGE, STEPS, versions, attempts=attempts))
        made.append((message.id, taken.facts, taken.rows))
    return made


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture
def writer(spool: Spool, tmp_path: Path) -> Iterator[Writer]:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    database.migrate()
    made = Writer(spool, database, every_s=1000.0)  # comes when it is flushed, and only then
    yield made
    made.close()
    database.close()


def hand_over(spool: Spool, made: list[Made]) -> None:
    for id, facts, rows in made:
        spool.begin(id, facts)
        spool.finish(id, rows)


def measured(benchmark: Any, work: Callable[..., object], setup: Callable[[], Any], *, count: int, rounds: int) -> None:
    """Measure rounds of so many requests, and note the microseconds of CPU time a request."""
    benchmark.pedantic(work, setup=setup, rounds=rounds, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["us_a_request"] = round(benchmark.stats.stats.median / count * 1e6, 1)


@pytest.mark.benchmark(timer=time.thread_time)
def test_begin_and_finish(benchmark: Any, spool: Spool) -> None:
    made = requests()
    measured(benchmark, lambda: hand_over(spool, made), lambda: None, count=len(made), rounds=20)


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("batch", [50, REQUESTS])
def test_from_the_spool_to_sqlite(benchmark: Any, spool: Spool, writer: Writer, batch: int) -> None:
    """Batches of 50 come at 200 requests a second, those of hundreds behind a stall."""

    def setup() -> None:
        hand_over(spool, requests(batch))

    measured(benchmark, writer.flush, setup, count=batch, rounds=8_000 // batch)
    assert writer.written
    assert not writer.refused


def test_new_id(benchmark: Any) -> None:
    benchmark(new_id, "msg")
