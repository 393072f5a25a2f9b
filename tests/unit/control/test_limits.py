from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from modelyard.control import limits as limits_module
from modelyard.control.keys import ANONYMOUS
from modelyard.control.limits import Limits, Permit
from modelyard.control.quotas import Quota
from modelyard.errors import InvalidInput, LimitExceeded
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import Spending
from tests.unit.control.limiting import CLI, OTHER, WEB, Bench, local, redis_answers, shared
from tests.unit.control.usage import store, usage


@pytest.fixture(params=["local", "redis"])
async def bench(
    request: pytest.FixtureRequest, sqlite: Database, require_service: Callable[[str, object], None]
) -> AsyncIterator[Bench]:
    if request.param == "redis":
        require_service("Redis", redis_answers())
    async with (local if request.param == "local" else shared)(sqlite) as made:
        yield made


async def admitted(bench: Bench, tokens: float = 10, cost_usd: float = 0.01) -> Permit:
    return await bench.limits.admit(WEB, "auto", tokens, cost_usd)


async def refused(bench: Bench, tokens: float = 10, cost_usd: float = 0.01) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await admitted(bench, tokens, cost_usd)
    return caught.value


async def test_without_a_quota_everything_is_let_through(bench: Bench):
    for caller in (WEB, ANONYMOUS):
        permit = await bench.limits.admit(caller, "auto", 1e12, 1e12)
        await bench.limits.settle(permit, 1e12, 1e12)
    assert bench.limits.problem is None


async def test_requests_a_minute(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=3))
    for _ in range(3):
        await admitted(bench)
        bench.clock.now += 10
    error = await refused(bench)
    assert str(error) == "The limit of 3 requests a minute of the key 'web' is reached."
    assert (error.kind, error.retry_after_s) == ("rate", pytest.approx(32, abs=2))
    bench.clock.now += error.retry_after_s or 0
    await admitted(bench)
    await refused(bench)


async def test_tokens_a_minute_are_counted_as_they_were_in_the_end(bench: Bench):
    bench.allow(Quota("key", "key-1", tokens_per_minute=100))
    first = await admitted(bench, tokens=80)
    assert "100 tokens a minute" in str(await refused(bench, tokens=30))
    await bench.limits.settle(first, 20, 0)
    second = await admitted(bench, tokens=80)
    await bench.limits.settle(second, 200, 0)
    bench.clock.now += 30
    error = await refused(bench, tokens=1)
    bench.clock.now += error.retry_after_s or 0
    await admitted(bench, tokens=100)


async def test_a_call_that_is_over_the_limit_alone_never_comes_back(bench: Bench):
    bench.allow(Quota("key", "key-1", tokens_per_minute=100))
    error = await refused(bench, tokens=101)
    assert (error.kind, error.retry_after_s) == ("rate", None)
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    error = await refused(bench, cost_usd=1.01)
    assert (error.kind, error.retry_after_s) == ("budget", None)


async def test_a_call_of_unknown_length_takes_what_is_left_of_a_minute(bench: Bench):
    bench.allow(
        Quota("key", "key-1", tokens_per_minute=100, usd_per_day=1.0),
        Quota("project", "project-1", tokens_per_minute=11_000),
    )
    for used in (30, 45):
        permit = await bench.limits.admit(WEB, "auto", 5_000, 0.01, least_tokens=20)
        assert (await refused(bench, tokens=1)).retry_after_s is not None
        others = await bench.limits.admit(CLI, "auto", 5_000, 0.01)  # the project had room for the longest answer
        await bench.limits.settle(permit, used, 0.01)
        await bench.limits.settle(others, 0, 0.0)
    assert "100 tokens a minute" in str(await refused(bench, tokens=26))
    with pytest.raises(LimitExceeded) as caught:
        await bench.limits.admit(WEB, "auto", 5_000, 0.01, least_tokens=26)
    assert caught.value.retry_after_s is not None
    await admitted(bench, tokens=25)
    with pytest.raises(LimitExceeded) as caught:
        await bench.limits.admit(WEB, "auto", 5_000, 0.01, least_tokens=101)
    assert caught.value.retry_after_s is None


async def test_a_call_of_unknown_length_is_told_how_to_take_less(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    with pytest.raises(LimitExceeded) as caught:
        await bench.limits.admit(WEB, "auto", 10, 1.5, least_tokens=1)
    said = "This call alone may cost more than the budget of USD 1 a day of the key 'web'; with max_tokens it would take less."
    assert str(caught.value) == said


async def test_a_caller_who_goes_away_while_a_call_is_settled_leaves_nothing_reserved(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    permit = await admitted(bench, cost_usd=1.0)
    settling = asyncio.ensure_future(bench.limits.settle(permit, 1, 0.25))
    await asyncio.sleep(0)
    settling.cancel()
    await asyncio.wait([settling])
    for _ in range(1_000):
        if await fits(bench, 0.75):
            return
        await asyncio.sleep(0.001)
    pytest.fail("the call was never settled")


async def fits(bench: Bench, cost_usd: float) -> bool:
    try:
        await admitted(bench, cost_usd=cost_usd)
    except LimitExceeded:
        return False
    return True


async def test_a_limit_of_nothing_lets_nothing_through(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=0))
    assert (await refused(bench)).retry_after_s is None
    bench.allow(Quota("key", "key-1", usd_per_month=0.0))
    assert (await refused(bench)).retry_after_s is None
    await admitted(bench, cost_usd=0.0)


async def test_a_budget_counts_what_is_reserved_and_then_what_was_spent(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    first = await admitted(bench, cost_usd=0.7)
    error = await refused(bench, cost_usd=0.4)
    assert str(error) == "The budget of USD 1 a day of the key 'web' is reserved by calls under way."
    assert (error.kind, error.retry_after_s) == ("budget", 1.0)
    await bench.limits.settle(first, 10, 0.65)
    second = await admitted(bench, cost_usd=0.35)
    await bench.limits.settle(second, 10, 0.35)
    error = await refused(bench, cost_usd=0.000000001)
    assert str(error) == "The budget of USD 1 a day of the key 'web' is too nearly spent for this call."
    assert error.retry_after_s == 12 * 3_600


async def test_settling_and_releasing_count_once(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0, tokens_per_minute=100))
    permit = await admitted(bench, tokens=100, cost_usd=1.0)
    for _ in range(2):
        await bench.limits.settle(permit, 50, 0.5)
        await bench.limits.release(permit)
    await admitted(bench, tokens=50, cost_usd=0.5)
    assert (await refused(bench, tokens=0, cost_usd=0.1)).kind == "budget"


async def test_a_release_gives_tokens_and_money_back_but_not_the_request(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=2, tokens_per_minute=100, usd_per_month=1.0))
    await bench.limits.release(await admitted(bench, tokens=100, cost_usd=1.0))
    await bench.limits.release(await admitted(bench, tokens=100, cost_usd=1.0))
    assert "2 requests a minute" in str(await refused(bench, tokens=100, cost_usd=1.0))


async def test_a_refused_call_takes_nothing_of_any_limit(bench: Bench):
    bench.allow(
        Quota("key", "key-1", requests_per_minute=2),
        Quota("project", "project-1", usd_per_day=1.0),
        Quota("model_type", "auto", tokens_per_minute=100),
    )
    for _ in range(5):
        assert "the project 'shop'" in str(await refused(bench, cost_usd=1.5))
        assert "the model 'auto'" in str(await refused(bench, tokens=101))
    await admitted(bench, tokens=50, cost_usd=0.5)
    await admitted(bench, tokens=50, cost_usd=0.5)
    assert "the key 'web'" in str(await refused(bench, tokens=0, cost_usd=0))


async def test_whose_limits_count_for_whom(bench: Bench):
    bench.allow(
        Quota("key", "key-1", usd_per_day=1.0),
        Quota("project", "project-1", usd_per_day=1.5),
        Quota("model_type", "auto", usd_per_day=2.0),
    )
    await bench.limits.admit(WEB, "auto", 1, 1.0)
    with pytest.raises(LimitExceeded, match="the key 'web'"):
        await bench.limits.admit(WEB, "md", 1, 0.5)
    with pytest.raises(LimitExceeded, match="the project 'shop'"):
        await bench.limits.admit(CLI, "md", 1, 0.6)
    await bench.limits.admit(CLI, "md", 1, 0.5)
    with pytest.raises(LimitExceeded, match="the model 'auto'"):
        await bench.limits.admit(OTHER, "auto", 1, 1.1)
    with pytest.raises(LimitExceeded, match="the model 'auto'"):
        await bench.limits.admit(ANONYMOUS, "auto", 1, 1.1)
    await bench.limits.admit(OTHER, "md", 1, 100.0)


async def test_the_limit_that_holds_up_longest_is_told(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=1, usd_per_day=1.0))
    await bench.limits.settle(await admitted(bench, cost_usd=1.0), 1, 1.0)
    assert (await refused(bench, cost_usd=0.5)).kind == "budget"


async def test_days_and_months_begin_anew_and_calls_count_where_they_began(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0, usd_per_month=2.5))
    late = await admitted(bench, cost_usd=1.0)
    bench.clock.now += 86_400
    await bench.limits.settle(await admitted(bench, cost_usd=1.0), 1, 1.0)
    await bench.limits.settle(late, 1, 1.0)
    assert "a day" in str(await refused(bench, cost_usd=0.1))
    bench.clock.now += 86_400
    assert "USD 2.5 a month" in str(await refused(bench, cost_usd=0.6))
    await admitted(bench, cost_usd=0.5)
    bench.clock.now = datetime(2026, 4, 1, tzinfo=UTC).timestamp()
    await admitted(bench, cost_usd=1.0)


async def test_calls_that_cost_nothing_pass_a_spent_budget(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0, tokens_per_minute=100))
    await bench.limits.settle(await admitted(bench, cost_usd=1.0), 1, 1.0)
    for _ in range(3):
        await bench.limits.settle(await admitted(bench, tokens=0, cost_usd=0.0), 0, 0.0)
        await bench.limits.release(await admitted(bench, tokens=0, cost_usd=0.0))
    assert bench.limits.problem is None
    await admitted(bench, cost_usd=0.0)  # nobody settles it
    bench.clock.now += 3_601
    await admitted(bench, cost_usd=0.0)
    assert bench.limits.problem is None


async def test_a_call_that_cost_more_than_reserved_counts_in_full(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    await bench.limits.settle(await admitted(bench, cost_usd=0.1), 1, 5.0)
    assert (await refused(bench, cost_usd=0.01)).retry_after_s == 12 * 3_600


@pytest.mark.parametrize(("tokens", "cost"), [(-1, 0.0), (0, -0.1), (math.nan, 0.0), (0, math.nan)])
async def test_numbers_that_cannot_be(bench: Bench, tokens: float, cost: float, caplog: pytest.LogCaptureFixture):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    with pytest.raises(InvalidInput, match="must not be negative"):
        await admitted(bench, tokens, cost)
    permit = await admitted(bench, cost_usd=1.0)
    await bench.limits.settle(permit, tokens, cost)
    assert "settled at what was reserved" in caplog.text
    assert (await refused(bench, cost_usd=0.1)).retry_after_s == 12 * 3_600


@pytest.mark.parametrize("huge", [2.0**53, 1e18, 1e308, math.inf])
async def test_absurd_numbers_are_refused_and_break_nothing(bench: Bench, huge: float):
    bench.allow(Quota("key", "key-1", tokens_per_minute=2**31 - 1, usd_per_day=9_000_000.0))
    assert (await refused(bench, huge, 0.0)).retry_after_s is None
    assert (await refused(bench, 0, huge)).retry_after_s is None
    await bench.limits.settle(await admitted(bench), huge, huge)
    await refused(bench)


async def test_large_budgets_are_exact(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_month=9_000_000.0))
    await bench.limits.settle(await admitted(bench, cost_usd=8_999_999.5), 1, 8_999_999.5)
    await bench.limits.settle(await admitted(bench, cost_usd=0.499999999), 1, 0.499999999)
    await bench.limits.settle(await admitted(bench, cost_usd=0.000000001), 1, 0.000000001)
    await refused(bench, cost_usd=0.000000001)


async def test_budgets_begin_with_what_the_database_says(bench: Bench):
    store(
        bench.database,
        usage(api_key_id="key-1", cost_usd=0.4),
        usage(api_key_id="key-1", cost_usd=0.3, kind="orphan", status="orphaned"),
        usage(minutes_ago=13 * 60, api_key_id="key-1", cost_usd=1.0),
        usage(minutes_ago=20 * 24 * 60, api_key_id="key-1", cost_usd=100.0),
        usage(api_key_id="key-2", cost_usd=100.0),
    )
    bench.allow(Quota("key", "key-1", usd_per_day=1.0, usd_per_month=2.0))
    assert "a day" in str(await refused(bench, cost_usd=0.31))
    await bench.limits.release(await admitted(bench, cost_usd=0.3))
    bench.clock.now += 86_400
    assert "a month" in str(await refused(bench, cost_usd=0.31))


async def test_a_model_type_counts_composites_and_models_asked_for_directly(bench: Bench):
    store(
        bench.database,
        usage(composite="auto", model="md", cost_usd=0.5),
        usage(model="auto", cost_usd=0.25),
        usage(composite="lite", model="auto", cost_usd=9.0),
    )
    bench.allow(Quota("model_type", "auto", usd_per_day=1.0))
    assert "the model 'auto'" in str(await refused(bench, cost_usd=0.26))
    await admitted(bench, cost_usd=0.25)


async def test_what_was_spent_is_saved_and_outlives_its_usage_rows(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0, usd_per_month=10.0))
    await bench.limits.settle(await admitted(bench, cost_usd=0.9), 1, 0.75)
    bench.limits.save_spending()
    with bench.database.read() as session:
        rows = {(row.scope, row.subject, row.period): row.spent_usd for row in session.query(Spending)}
    assert rows == {("key", "key-1", "2026-03-14"): 0.75, ("key", "key-1", "2026-03"): 0.75}
    async with local(bench.database) as restarted:
        restarted.quotas.refresh()
        await refused(restarted, cost_usd=0.26)
        await admitted(restarted, cost_usd=0.25)


async def test_a_quota_that_comes_back_counts_what_was_spent_meanwhile(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    await bench.limits.settle(await admitted(bench, cost_usd=0.1), 1, 0.1)
    bench.allow()
    await bench.limits.settle(await admitted(bench, cost_usd=0.8), 1, 0.8)
    store(bench.database, usage(api_key_id="key-1", cost_usd=0.9))
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    await refused(bench, cost_usd=0.11)
    await admitted(bench, cost_usd=0.1)


async def test_a_changed_limit_keeps_what_was_counted(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=2, usd_per_day=1.0))
    permit = await admitted(bench, cost_usd=0.5)
    bench.allow(Quota("key", "key-1", requests_per_minute=3, usd_per_day=0.7))
    await refused(bench, cost_usd=0.3)
    await bench.limits.settle(permit, 1, 0.3)
    await admitted(bench, cost_usd=0.4)
    await admitted(bench, cost_usd=0.0)
    assert "3 requests" in str(await refused(bench, cost_usd=0.0))


@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_a_reservation_that_nobody_settles_lapses_into_spent(
    kind: str, sqlite: Database, require_service: Callable[[str, object], None]
):
    require_service("Redis", kind == "local" or redis_answers())
    async with (local if kind == "local" else shared)(sqlite, hold_s=600.0) as bench:
        bench.allow(Quota("key", "key-1", usd_per_day=1.0))
        await admitted(bench, cost_usd=0.6)
        assert (await refused(bench, cost_usd=0.5)).retry_after_s == 1.0
        bench.clock.now += 601
        assert (await refused(bench, cost_usd=0.5)).retry_after_s == 12 * 3_600 - 601
        await admitted(bench, cost_usd=0.4)


@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_a_call_that_is_settled_after_it_lapsed_counts_once(
    kind: str, sqlite: Database, require_service: Callable[[str, object], None]
):
    require_service("Redis", kind == "local" or redis_answers())
    async with (local if kind == "local" else shared)(sqlite, hold_s=600.0) as bench:
        bench.allow(Quota("key", "key-1", usd_per_day=1.0))
        long = await admitted(bench, cost_usd=0.6)
        bench.clock.now += 601
        await refused(bench, cost_usd=0.5)
        await bench.limits.settle(long, 1, 0.2)
        await refused(bench, cost_usd=0.81)
        await admitted(bench, cost_usd=0.8)


async def test_two_hundred_calls_at_once_do_not_pass_a_nearly_spent_budget(bench: Bench):
    store(bench.database, usage(api_key_id="key-1", cost_usd=9.5))
    bench.allow(Quota("key", "key-1", usd_per_day=10.0), Quota("project", "project-1", usd_per_month=1_000.0))

    async def call() -> float:
        try:
            permit = await admitted(bench, cost_usd=0.03)
        except LimitExceeded:
            return 0.0
        await asyncio.sleep(0)
        await bench.limits.settle(permit, 1, 0.03)
        return 0.03

    spent = await asyncio.gather(*(call() for _ in range(200)))
    assert sum(cost > 0 for cost in spent) == 16  # × 0.03 = 0.48 of the 0.5 that are left
    await refused(bench, cost_usd=0.03)
    await admitted(bench, cost_usd=0.02)


async def test_two_hundred_calls_at_once_do_not_pass_a_rate(bench: Bench):
    bench.allow(Quota("key", "key-1", requests_per_minute=25, tokens_per_minute=10_000))
    found = await asyncio.gather(*(admitted(bench) for _ in range(200)), return_exceptions=True)
    assert sum(isinstance(one, Permit) for one in found) == 25
    assert sum(isinstance(one, LimitExceeded) for one in found) == 175


async def test_a_database_that_is_gone_opens_no_budget(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE model_usage RENAME TO hidden")
    with pytest.raises(StorageError):
        await admitted(bench)
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO model_usage")
    await admitted(bench)


async def test_a_database_that_hangs_is_not_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch):

    ended = threading.Event()
    monkeypatch.setattr(limits_module, "SEED_S", 0.01)
    monkeypatch.setattr(limits_module, "spent_usd", lambda *_: float(ended.wait(10)))
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    with pytest.raises(StorageError, match="did not say within"):
        await admitted(bench)
    ended.set()


def test_both_are_limits(bench: Bench):
    limits: Limits = bench.limits
    assert limits.problem is None
