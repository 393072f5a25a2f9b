from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from modelyard.control.periodic import Periodic
from modelyard.errors import ModelyardError


async def until_runs(job: Periodic, runs: int) -> None:
    while job.runs < runs:
        await asyncio.sleep(0.001)


async def test_a_job_runs_again_and_again_until_it_is_stopped():
    done: list[int] = []
    job = Periodic("counting", lambda: done.append(1), 0.001)
    await job.start()
    await until_runs(job, 3)
    await job.stop()
    runs = len(done)
    await asyncio.sleep(0.02)
    assert len(done) == runs >= 3


async def test_a_failing_job_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture):
    outcomes = [ModelyardError("The database is gone."), ModelyardError("The database is gone."), None]

    def work() -> None:
        if outcomes and (error := outcomes.pop(0)):
            raise error

    job = Periodic("working", work, 0.001)
    with caplog.at_level(logging.INFO, "modelyard.control"):
        job.run_once()
        assert job.problem == "The database is gone."
        job.run_once()
        job.run_once()
    assert job.problem is None
    assert [record.getMessage() for record in caplog.records] == [
        "The background job working failed: The database is gone.",
        "The background job working works again",
    ]


async def test_a_bug_does_not_end_the_job(caplog: pytest.LogCaptureFixture):
    def work() -> None:
        raise ZeroDivisionError("by zero")

    job = Periodic("buggy", work, 0.001)
    await job.start()
    await until_runs(job, 2)
    await job.stop()
    assert job.problem == "ZeroDivisionError: by zero"
    assert "Traceback" in caplog.text


async def test_stopping_waits_for_the_run_under_way():
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(10)
        left.set()

    job = Periodic("slow", work, 3600)
    await job.start()
    await asyncio.to_thread(entered.wait, 10)
    stopping = asyncio.create_task(job.stop())
    await asyncio.sleep(0)
    leave.set()
    await stopping
    assert left.is_set()


async def test_starting_twice_and_stopping_what_never_started_do_nothing():
    job = Periodic("idle", lambda: None, 3600)
    await job.stop()
    await job.start()
    await job.start()
    await until_runs(job, 1)
    await job.stop()
    assert job.runs == 1


def test_a_job_that_works_long_rests_longer():
    def work() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    job = Periodic("counting", work, 0.5)
    assert job.pause_s == 0.5
    job.run_once()
    assert job.pause_s >= 1.0


def test_a_job_that_waits_does_not():
    job = Periodic("waiting", lambda: time.sleep(0.1), 0.5)
    job.run_once()
    assert job.pause_s == 0.5
