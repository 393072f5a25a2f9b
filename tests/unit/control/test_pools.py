from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from modelyard.control.pools import Pool, Shared, Width
from modelyard.errors import LimitExceeded


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def until_under_way(pool: Pool, most: int) -> None:
    while pool.under_way != most:
        await asyncio.sleep(0.001)


async def test_work_is_done_in_threads_of_its_own_and_returns_what_it_finds():
    pool = Pool("feedback", Width(1, 1))
    name = await pool.run(lambda: threading.current_thread().name)
    assert name.startswith("modelyard-feedback")
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0)
    assert pool.under_way == 0
    pool.close()


async def test_work_beyond_the_queue_is_refused_and_let_in_later(gate: threading.Event):
    pool = Pool("feedback", Width(1, 2))
    running = [asyncio.create_task(pool.run(gate.wait)) for _ in range(3)]
    await until_under_way(pool, 3)
    with pytest.raises(LimitExceeded, match="has to wait for 2 others") as caught:
        await pool.run(gate.wait)
    assert (caught.value.kind, caught.value.retry_after_s, pool.refused) == ("capacity", 1.0, 1)
    gate.set()
    assert await asyncio.gather(*running) == [True] * 3
    await until_under_way(pool, 0)
    assert await pool.run(gate.wait)
    pool.close()


async def test_what_waits_too_long_is_given_up_and_what_is_begun_is_not(gate: threading.Event):
    pool, done, at_work = Pool("feedback", Width(1, 9, patience_s=0.05)), list[int](), threading.Event()
    begun = asyncio.create_task(pool.run(lambda: at_work.set() or gate.wait()))
    while not at_work.is_set():
        await asyncio.sleep(0.001)
    with pytest.raises(LimitExceeded, match=r"was not begun within 0\.05 s"):
        await pool.run(done.append, 1)
    assert not begun.done()
    gate.set()
    assert await begun
    assert await pool.run(lambda: done) == []
    pool.close()


async def test_a_caller_who_leaves_is_cancelled_and_frees_its_place_where_nothing_was_begun(gate: threading.Event):
    pool = Pool("feedback", Width(1, 9))
    begun, waits = (asyncio.create_task(pool.run(gate.wait)) for _ in range(2))
    await until_under_way(pool, 2)
    waits.cancel()
    begun.cancel()
    for task in (begun, waits):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert pool.under_way == 1  # a thread cannot be stopped
    gate.set()
    await until_under_way(pool, 0)
    pool.close()


async def test_all_who_ask_meanwhile_share_one_look(gate: threading.Event):
    looks = list[int]()

    def look() -> int:
        gate.wait()
        looks.append(1)
        return len(looks)

    shared = Shared("health", look)
    asking = [asyncio.create_task(shared.get()) for _ in range(20)]
    await asyncio.sleep(0)
    asking.pop().cancel()  # takes nobody along
    gate.set()
    assert await asyncio.gather(*asking) == [1] * 19
    assert await shared.get() == 2
    shared.close()


async def test_what_was_found_stays_good_for_a_moment_and_a_failure_does_not():
    now, found = [0.0], [ValueError("no"), 1, 2]

    def look() -> int:
        one = found.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    shared = Shared("health", look, 1.0, lambda: now[0])
    with pytest.raises(ValueError, match="no"):
        await shared.get()
    assert [await shared.get(), await shared.get()] == [1, 1]
    now[0] = 1.5
    assert await shared.get() == 2
    shared.close()
