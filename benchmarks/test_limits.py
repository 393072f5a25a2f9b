"""What keys and limits cost a request: `pytest benchmarks/test_limits.py --benchmark-enable`.

Bars: admit and settle in process < 20 µs where no quota is set, < 60 µs with every limit of key, project and model type.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.control import key_checks
from modelyard.control.credentials import new_key
from modelyard.control.keys import KeyRing
from modelyard.control.limits import Limits, LocalLimits
from modelyard.control.quotas import Quota, Quotas
from modelyard.errors import Unauthenticated
from modelyard.storage import Database
from tests.unit.control.limiting import REDIS, WEB, forget, fresh_prefix, redis_answers

CALLS = 1_000  # of one round: what the loop itself costs vanishes
AMPLE = {"requests_per_minute": 2**31 - 1, "tokens_per_minute": 2**31 - 1, "usd_per_day": 9e6, "usd_per_month": 9e6}
QUOTAS = {
    "none": (),
    "key": (Quota("key", "key-1", **AMPLE),),
    "all": (
        Quota("key", "key-1", **AMPLE),
        Quota("project", "project-1", **AMPLE),
        Quota("model_type", "auto", **AMPLE),
    ),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def quotas(database: Database) -> Iterator[Quotas]:
    made = Quotas(database)
    yield made
    made.close()


def known(quotas: Quotas, wanted: tuple[Quota, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "all", lambda: wanted)
    quotas.refresh()


Work = Callable[[], Coroutine[Any, Any, object]]


def in_rounds(benchmark: Any, work: Work, *, calls: int = CALLS, end: Work | None = None) -> None:
    """Measure rounds of so many calls in one event loop, and note microseconds a call."""
    loop = asyncio.new_event_loop()

    async def many() -> None:
        for _ in range(calls):
            await work()

    loop.run_until_complete(work())
    benchmark.pedantic(lambda: loop.run_until_complete(many()), rounds=20, warmup_rounds=2)
    if end is not None:
        loop.run_until_complete(end())
    loop.close()
    if benchmark.stats is not None:
        benchmark.extra_info["us_a_call"] = round(benchmark.stats.stats.median / calls * 1e6, 2)


async def admit_and_settle(limits: Limits) -> None:
    permit = await limits.admit(WEB, "auto", 800, 0.004)
    await limits.settle(permit, 420, 0.0021)


@pytest.mark.parametrize("wanted", QUOTAS)
def test_local_admit_and_settle(
    benchmark: Any, wanted: str, quotas: Quotas, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(quotas, QUOTAS[wanted], monkeypatch)
    limits = LocalLimits(quotas, database)
    in_rounds(benchmark, lambda: admit_and_settle(limits))


@pytest.mark.skipif(not redis_answers(), reason="Redis is missing")
@pytest.mark.parametrize("wanted", QUOTAS)
def test_redis_admit_and_settle(
    benchmark: Any,
    wanted: str,
    quotas: Quotas,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from modelyard.control.redis_limits import RedisLimits

    known(quotas, QUOTAS[wanted], monkeypatch)
    prefix = fresh_prefix()
    limits = RedisLimits(quotas, database, REDIS, prefix=prefix)
    in_rounds(benchmark, lambda: admit_and_settle(limits), calls=50, end=limits.close)
    forget(prefix)


@pytest.fixture
def ring(database: Database) -> Iterator[KeyRing]:
    made = KeyRing(database)
    yield made
    made.close()


def test_a_key_that_is_known(benchmark: Any, ring: KeyRing) -> None:
    _, key = ring.create("shop", "web", ["chat"])
    in_rounds(benchmark, lambda: ring.authenticate(key))


def test_a_key_that_was_wrong_before(benchmark: Any, ring: KeyRing) -> None:
    wrong = new_key()
    in_rounds(benchmark, lambda: refused(ring, wrong))


@pytest.mark.parametrize("prefix", ["unknown", "known"])
def test_a_wrong_key_that_is_new(benchmark: Any, ring: KeyRing, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two must cost the same: otherwise prefixes could be found by timing."""
    monkeypatch.setattr(key_checks, "LOOKS_A_SECOND", 1e9)
    _, key = ring.create("shop", "web", ["chat"])
    start = key[:12] if prefix == "known" else None

    def wrong() -> str:
        other = new_key()
        return other if start is None else start + other[12:]

    in_rounds(benchmark, lambda: refused(ring, wrong()), calls=50)


async def refused(ring: KeyRing, key: str) -> None:
    with contextlib.suppress(Unauthenticated):
        await ring.authenticate(key)
