"""However calls come, end, fail and go away at once: no limit is passed, and nothing stays reserved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.control.quotas import Quota
from modelyard.errors import LimitExceeded
from modelyard.storage import Database
from tests.unit.control.limiting import CLI, OTHER, WEB, Bench, forget, fresh_prefix, local, redis_answers, shared

KEY_USD, PROJECT_USD, MODEL_USD, REQUESTS, TOKENS = 0.50, 0.80, 1.00, 20, 2_000
CALLERS = {caller.key_id: caller for caller in (WEB, CLI, OTHER)}
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Call:
    key: str
    cents: int  # reserved
    share: float  # of that it really costs
    turns: int  # of the loop that it lasts
    ends: str


CALLS = st.lists(
    st.builds(
        Call,
        key=st.sampled_from(sorted(CALLERS)),
        cents=st.integers(0, 60),
        share=st.floats(0, 1),
        turns=st.integers(0, 6),
        ends=st.sampled_from(["settle", "settle", "release", "cancel", "twice"]),
    ),
    max_size=60,
)


@dataclass
class Books:
    """What was really let through and spent, kept beside the limits."""

    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CALLERS, 0.0))
    reserved: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CALLERS, 0.0))
    requests: int = 0
    refused: int = 0

    def check(self) -> None:
        held = {key: self.spent[key] + self.reserved[key] for key in CALLERS}
        assert held["key-1"] <= KEY_USD + 1e-6
        assert held["key-1"] + held["key-2"] <= PROJECT_USD + 1e-6
        assert sum(held.values()) <= MODEL_USD + 1e-6
        assert self.requests <= REQUESTS


async def make(bench: Bench, call: Call, books: Books) -> None:
    usd = call.cents / 100
    try:
        permit = await bench.limits.admit(CALLERS[call.key], "auto", 10, usd)
    except LimitExceeded:
        books.refused += 1
        return
    books.reserved[call.key] += usd
    books.requests += 1
    books.check()
    try:
        for _ in range(call.turns):
            await asyncio.sleep(0)
        if call.ends == "cancel":
            raise asyncio.CancelledError
    finally:
        # The call is over and its cost a fact, before the limits are told and may lend the rest to another call.
        cost = 0.0 if call.ends == "release" else usd * call.share
        books.reserved[call.key] -= usd
        books.spent[call.key] += cost
        if call.ends == "release":
            await bench.limits.release(permit)
        else:
            await bench.limits.settle(permit, 5, cost)
        if call.ends == "twice":
            await bench.limits.settle(permit, 5, cost)


async def play(bench: Bench, calls: list[Call]) -> None:
    bench.allow(
        Quota("key", "key-1", usd_per_day=KEY_USD),
        Quota("project", "project-1", usd_per_month=PROJECT_USD),
        Quota("model_type", "auto", usd_per_day=MODEL_USD, requests_per_minute=REQUESTS, tokens_per_minute=TOKENS),
    )
    books = Books()
    ends = await asyncio.gather(*(make(bench, call, books) for call in calls), return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends), ends
    books.check()
    bench.clock.now += 120  # rates are forgotten, money is not
    spent = books.spent
    left = min(
        KEY_USD - spent["key-1"],
        PROJECT_USD - spent["key-1"] - spent["key-2"],
        MODEL_USD - sum(spent.values()),
    )
    with pytest.raises(LimitExceeded):
        await bench.limits.admit(WEB, "auto", 1, left + 0.001)
    if left > 0.001:
        await bench.limits.admit(WEB, "auto", 1, left - 0.001)


async def play_locally(database: Database, calls: list[Call]) -> None:
    async with local(database) as bench:
        await play(bench, calls)


async def play_in_redis(database: Database, calls: list[Call], prefix: str) -> None:
    async with shared(database, prefix=prefix) as bench:
        await play(bench, calls)


@SHARED
@given(calls=CALLS)
def test_limits_in_process_hold(sqlite: Database, calls: list[Call]):
    asyncio.run(play_locally(sqlite, calls))


@settings(SHARED, max_examples=25)
@given(calls=CALLS)
def test_limits_in_redis_hold(sqlite: Database, require_service: Callable[[str, object], None], calls: list[Call]):
    require_service("Redis", redis_answers())
    prefix = fresh_prefix()
    try:
        asyncio.run(play_in_redis(sqlite, calls, prefix))
    finally:
        forget(prefix)
