from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator

import pytest

from modelyard.control import quotas as quotas_module
from modelyard.control.keys import KeyRing
from modelyard.control.quotas import Quota, Quotas
from modelyard.errors import InvalidInput
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import Quota as Row
from tests.unit.control.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(database: Database, clock: Clock) -> Iterator[Quotas]:
    made = Quotas(database, clock=clock)
    yield made
    made.close()


@pytest.fixture
def ring(database: Database) -> Iterator[KeyRing]:
    made = KeyRing(database)
    yield made
    made.close()


def rename(database: Database, old: str, new: str) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


def set_elsewhere(database: Database, scope: str, subject: str, **limits: float) -> None:
    with database.write() as session:
        session.add(Row(scope=scope, subject=subject, **limits))


def test_subjects_are_found_by_prefix_and_name_and_kept_by_id(quotas: Quotas, ring: KeyRing):
    made, key = ring.create("shop", "web", ["chat"])
    by_prefix = quotas.put(Quota("key", key[3:11], requests_per_minute=5))
    by_name = quotas.put(Quota("project", "shop", usd_per_day=1.5))
    assert (by_prefix.subject, by_name.subject) == (made.key_id, made.project)
    quotas.put(Quota("key", made.key_id or "", tokens_per_minute=7))
    assert quotas.all() == (
        Quota("key", made.key_id or "", tokens_per_minute=7),
        Quota("project", made.project or "", usd_per_day=1.5),
    )
    quotas.remove("key", key[3:11])
    quotas.remove("project", "shop")
    assert quotas.all() == ()


async def test_what_other_programs_stored_by_name_counts_and_the_strictest_holds(
    quotas: Quotas, ring: KeyRing, database: Database
):
    made, key = ring.create("shop", "web", ["chat"])
    ring.rotate(made.key_id or "", grace_s=60)
    set_elsewhere(database, "project", "shop", usd_per_day=1.0, usd_per_month=30.0)
    set_elsewhere(database, "project", made.project or "", usd_per_day=2.0, requests_per_minute=9)
    set_elsewhere(database, "key", key[3:11], tokens_per_minute=5)  # the prefix that was rotated away
    known = await quotas.current()
    project = known["project", made.project or ""]
    assert (project.usd_per_day, project.usd_per_month, project.requests_per_minute) == (1.0, 30.0, 9)
    assert known["key", made.key_id or ""].tokens_per_minute == 5


@pytest.mark.parametrize(("stored", "limit"), [(-5.0, 0), (1e300, 9_000_000.0), (math.inf, 9_000_000.0)])
async def test_limits_that_cannot_be_let_no_more_through(
    quotas: Quotas, database: Database, stored: float, limit: float
):
    set_elsewhere(database, "model_type", "auto", usd_per_day=stored)
    assert (await quotas.current())["model_type", "auto"].usd_per_day == limit


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 2**31 * 1_000_000])
def test_limits_must_make_sense(value: float):
    for name in quotas_module.LIMITS:
        with pytest.raises(InvalidInput, match=f"{name} must be within 0 and"):
            Quota("model_type", "auto", **{name: value})  # type: ignore[arg-type]


def test_subjects_must_be_there(quotas: Quotas):
    for scope in ("key", "project"):
        with pytest.raises(InvalidInput, match=f"There is no {scope} 'nobody'"):
            quotas.put(Quota(scope, "nobody", usd_per_day=1.0))
    with pytest.raises(InvalidInput, match="printable characters"):
        quotas.put(Quota("model_type", "a\nb", usd_per_day=1.0))
    with pytest.raises(InvalidInput, match="has no quota"):
        quotas.remove("model_type", "auto")


async def test_a_change_made_elsewhere_is_known_within_seconds(quotas: Quotas, database: Database, clock: Clock):
    assert await quotas.current() == {}
    set_elsewhere(database, "model_type", "auto", requests_per_minute=1)
    clock.now += 4.9
    assert quotas.fresh() == {}
    clock.now += 0.2
    assert quotas.fresh() is None
    await quotas.current()
    while quotas.fresh() is None:
        await asyncio.sleep(0.001)
    assert ("model_type", "auto") in (await quotas.current())


async def test_after_a_long_rest_nobody_goes_by_old_limits(quotas: Quotas, database: Database, clock: Clock):
    await quotas.current()
    set_elsewhere(database, "model_type", "auto", requests_per_minute=1)
    clock.now += 3_600
    assert ("model_type", "auto") in (await quotas.current())


async def test_limits_stay_while_the_database_is_gone_and_it_is_told(quotas: Quotas, database: Database, clock: Clock):
    quotas.put(Quota("model_type", "auto", requests_per_minute=1))
    rename(database, "quota", "hidden")
    clock.now += 100
    assert ("model_type", "auto") in (await quotas.current())
    assert (quotas.problem or "").startswith("Quotas are not read again: The database")
    rename(database, "hidden", "quota")
    clock.now += 100
    await quotas.current()
    while quotas.problem:
        await asyncio.sleep(0.001)


async def test_limits_that_were_never_read_let_nothing_through(quotas: Quotas, database: Database, clock: Clock):
    rename(database, "quota", "hidden")
    for _ in range(2):
        with pytest.raises(StorageError):
            await quotas.current()
    rename(database, "hidden", "quota")
    clock.now += 6
    assert await quotas.current() == {}


async def test_a_database_that_hangs_is_not_waited_for(sqlite: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    ended = threading.Event()
    quotas = Quotas(sqlite, clock=clock)
    known = await quotas.current()
    monkeypatch.setattr(quotas_module, "READ_S", 0.01)
    monkeypatch.setattr(quotas, "all", lambda: ended.wait(10) and ())
    clock.now += 100
    assert await quotas.current() is known
    assert "did not answer within" in (quotas.problem or "")
    ended.set()
    quotas.close()
