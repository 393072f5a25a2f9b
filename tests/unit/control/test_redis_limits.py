from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis

from modelyard.control import redis_link
from modelyard.control.limiting import make_limits
from modelyard.control.limits import LocalLimits
from modelyard.control.quotas import Quota, Quotas
from modelyard.control.redis_limits import RedisLimits
from modelyard.errors import InvalidSetting, LimitExceeded
from modelyard.settings import Settings
from modelyard.storage import Database
from tests.unit.control.limiting import REDIS, WEB, Bench, forget, fresh_prefix, redis_answers, shared
from tests.unit.control.usage import store, usage

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _redis(require_service: Callable[[str, object], None]) -> None:
    require_service("Redis", redis_answers())


@pytest.fixture
def prefix() -> Iterator[str]:
    made = fresh_prefix()
    yield made
    forget(made)


@pytest.fixture
async def bench(sqlite: Database, prefix: str) -> AsyncIterator[Bench]:
    async with shared(sqlite, prefix=prefix) as made:
        yield made


class Proxy:
    """Stands between a client and Redis, and can go away, or swallow what Redis answers."""

    def __init__(self) -> None:
        self.mute = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        if self._server is not None:
            await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = (redis.connection.parse_url(REDIS).get(name) for name in ("host", "port"))
        from_redis, to_redis = await asyncio.open_connection(host, port)
        self._writers |= {writer, to_redis}
        await asyncio.gather(self._pump(reader, to_redis, False), self._pump(from_redis, writer, True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not (answers and self.mute):
                    writer.write(data)
        writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setattr(redis_link, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(redis_link, "REST_S", 0.0)
    made = Proxy()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def cut(bench: Bench, proxy: Proxy, prefix: str) -> AsyncIterator[Callable[[str], RedisLimits]]:
    """Make limits of the same quotas and the same Redis, behind the proxy."""
    made: list[RedisLimits] = []

    def make(without: str) -> RedisLimits:
        url = (
            f"redis://:hunter2@127.0.0.1:{proxy.port}/0"
            if without == "password"
            else f"redis://127.0.0.1:{proxy.port}/0"
        )
        made.append(
            RedisLimits(
                bench.quotas, bench.database, url, without="local" if without == "local" else "closed",
                prefix=prefix, clock=bench.clock, redis_clock=bench.clock,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for limits in made:
        await limits.close()


async def test_processes_share_rates_and_budgets(bench: Bench, prefix: str):
    bench.allow(Quota("key", "key-1", requests_per_minute=3), Quota("project", "project-1", usd_per_day=1.0))
    async with shared(bench.database, prefix=prefix) as other:
        permit = await bench.limits.admit(WEB, "auto", 1, 0.6)
        with pytest.raises(LimitExceeded, match="reserved by calls under way"):
            await other.limits.admit(WEB, "auto", 1, 0.5)
        await bench.limits.settle(permit, 1, 0.5)
        await other.limits.admit(WEB, "auto", 1, 0.5)
        await bench.limits.admit(WEB, "auto", 1, 0.0)
        with pytest.raises(LimitExceeded, match="3 requests a minute"):
            await other.limits.admit(WEB, "auto", 1, 0.0)


@pytest.mark.slow
async def test_two_hundred_calls_of_several_processes_do_not_pass_a_budget(
    sqlite: Database, tmp_path: Path, prefix: str
):
    quotas = Quotas(sqlite)
    quotas.put(Quota("model_type", "auto", usd_per_month=1.0))
    quotas.close()
    url = f"sqlite:///{tmp_path / 'yard.db'}"
    spenders = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.unit.control.spender", url, prefix, "50", "0.03",
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip
    counts = [int((await spender.communicate())[0]) for spender in spenders]
    assert sum(counts) == 33  # × 0.03 = 0.99


async def test_redis_that_lost_its_memory_opens_no_budget(bench: Bench, prefix: str):
    store(bench.database, usage(api_key_id="key-1", cost_usd=0.7))
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    under_way = await bench.limits.admit(WEB, "auto", 1, 0.1)
    forget(prefix)
    with pytest.raises(LimitExceeded, match="too nearly spent"):
        await bench.limits.admit(WEB, "auto", 1, 0.4)
    await bench.limits.settle(under_way, 1, 0.1)
    with pytest.raises(LimitExceeded, match="too nearly spent"):
        await bench.limits.admit(WEB, "auto", 1, 0.21)
    await bench.limits.admit(WEB, "auto", 1, 0.2)


async def test_without_redis_nothing_is_let_through_and_it_is_told(
    bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy
):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    limits = cut("closed")
    permit = await limits.admit(WEB, "auto", 1, 0.6)
    await proxy.stop()
    with pytest.raises(LimitExceeded, match="cannot be counted now") as caught:
        await limits.admit(WEB, "auto", 1, 0.1)
    assert (caught.value.kind, caught.value.retry_after_s) == ("capacity", 1.0)
    assert "Redis cannot be used for limits" in (limits.problem or "")
    await limits.settle(permit, 1, 0.1)  # does not fail the call; the reservation stays
    await proxy.start()
    await limits.admit(WEB, "auto", 1, 0.4)
    assert limits.problem is None
    with pytest.raises(LimitExceeded, match="reserved"):
        await limits.admit(WEB, "auto", 1, 0.1)


async def test_callers_without_limits_need_no_redis(bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy):
    limits = cut("closed")
    await proxy.stop()
    await limits.settle(await limits.admit(WEB, "auto", 1, 0.1), 1, 0.1)
    assert limits.problem is None


async def test_without_redis_this_process_may_count_for_itself(
    bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy
):
    store(bench.database, usage(api_key_id="key-1", cost_usd=0.5))
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    limits = cut("local")
    await proxy.stop()
    permit = await limits.admit(WEB, "auto", 1, 0.5)
    with pytest.raises(LimitExceeded, match="reserved"):
        await limits.admit(WEB, "auto", 1, 0.1)
    await limits.settle(permit, 1, 0.4)
    assert "Redis cannot be used" in (limits.problem or "")
    store(bench.database, usage(api_key_id="key-1", cost_usd=0.4))
    await proxy.start()
    with pytest.raises(LimitExceeded, match="too nearly spent"):  # Redis was told what was spent without it
        await limits.admit(WEB, "auto", 1, 0.2)
    assert limits.problem is None


async def test_what_redis_reserved_without_being_able_to_say_so_is_given_back(
    bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy
):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    limits = cut("closed")
    await limits.release(await limits.admit(WEB, "auto", 1, 0.1))
    proxy.mute = True
    with pytest.raises(LimitExceeded, match="cannot be counted now"):
        await limits.admit(WEB, "auto", 1, 0.5)
    proxy.mute = False
    await limits.admit(WEB, "auto", 1, 0.1)
    await limits.close()
    await bench.limits.admit(WEB, "auto", 1, 0.9)


async def test_redis_that_restarts_between_two_calls_is_not_noticed(
    bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy
):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    limits = cut("closed")
    permit = await limits.admit(WEB, "auto", 1, 0.5)
    await proxy.stop()
    await proxy.start()
    await limits.settle(permit, 1, 0.5)
    await proxy.stop()
    await proxy.start()
    await limits.admit(WEB, "auto", 1, 0.5)
    assert limits.problem is None


async def test_a_caller_who_goes_away_leaves_nothing_reserved(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    await bench.limits.release(await bench.limits.admit(WEB, "auto", 1, 0.1))
    for turns in range(12):
        caller = asyncio.ensure_future(bench.limits.admit(WEB, "auto", 1, 1.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await bench.limits.release(await caller)
        while bench.limits._tasks:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        await bench.limits.release(await bench.limits.admit(WEB, "auto", 1, 1.0))


async def test_a_caller_who_goes_away_is_settled_all_the_same(bench: Bench):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    permit = await bench.limits.admit(WEB, "auto", 1, 1.0)
    settling = asyncio.ensure_future(bench.limits.settle(permit, 1, 0.25))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    while bench.limits._tasks:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    await bench.limits.admit(WEB, "auto", 1, 0.75)


@pytest.mark.parametrize("subject", ["a:b", "key:x", "{limits}", "*", "a\r\nFLUSHALL\r\n", "é" * 60])
async def test_names_of_models_cannot_reach_other_keys(bench: Bench, subject: str):
    bench.allow(Quota("model_type", subject, usd_per_day=1.0), Quota("model_type", "other", usd_per_day=1.0))
    await bench.limits.admit(WEB, subject, 1, 1.0)
    with pytest.raises(LimitExceeded) as caught:
        await bench.limits.admit(WEB, subject, 1, 0.1)
    assert str(caught.value).isprintable()
    await bench.limits.admit(WEB, "other", 1, 1.0)


async def test_the_password_is_never_shown(
    bench: Bench, cut: Callable[[str], RedisLimits], proxy: Proxy, caplog: pytest.LogCaptureFixture
):
    bench.allow(Quota("key", "key-1", usd_per_day=1.0))
    limits = cut("password")
    await proxy.stop()
    with pytest.raises(LimitExceeded) as caught:
        await limits.admit(WEB, "auto", 1, 0.1)
    for text in (str(caught.value), limits.problem or "", caplog.text):
        assert "hunter2" not in text


@pytest.mark.parametrize("url", ["http://:hunter2@localhost", "hunter2", "redis://:hunter2@localhost:port/0"])
async def test_a_url_that_is_not_redis_is_refused_without_repeating_it(sqlite: Database, url: str):
    quotas = Quotas(sqlite)
    with pytest.raises(InvalidSetting, match="MODELYARD_REDIS_URL must be a URL") as caught:
        RedisLimits(quotas, sqlite, url)
    assert "hunter2" not in str(caught.value)
    quotas.close()


async def test_settings_decide_where_limits_are_counted(sqlite: Database):
    quotas = Quotas(sqlite)
    assert isinstance(make_limits(Settings(), quotas, sqlite), LocalLimits)
    limits = make_limits(Settings(redis_url=REDIS), quotas, sqlite)
    assert isinstance(limits, RedisLimits)
    await limits.close()
    quotas.close()
