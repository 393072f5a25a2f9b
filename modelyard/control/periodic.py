"""Background jobs of a serving process: a blocking function, again and again, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modelyard.errors import ModelyardError

JITTER: Final = 0.1  # of the interval, so that several processes do not all come at once
REST: Final = 20.0  # times a run's own processor time; what looks through a day's rows must not take it from answers

log = logging.getLogger("modelyard.control")


class Periodic:
    """Runs a job every so often while it is started; one that fails is tried again, and `problem` says what went wrong.

    Args:
        name: For the log.
        job: Runs in a thread of its own, where a job that hangs holds up no other.
        every_s: Seconds between the end of one run and the start of the next; more where a run takes more than a twentieth of that.
    """

    def __init__(self, name: str, job: Callable[[], object], every_s: float) -> None:
        self._name, self._job, self._every_s = name, job, every_s
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._runs = 0
        self._took_s = 0.0

    @property
    def problem(self) -> str | None:
        """Why the last run failed, or None."""
        return self._problem

    @property
    def runs(self) -> int:
        """How many runs have ended, well or not."""
        return self._runs

    @property
    def pause_s(self) -> float:
        """Seconds until the next run, as long as the last one's work allows."""
        return max(self._every_s, REST * self._took_s)

    async def start(self) -> None:
        """Start; the first run comes at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop; a run that is under way in its thread is waited for."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"modelyard-{self._name}")
        try:
            while True:
                run = loop.run_in_executor(thread, self.run_once)
                try:
                    await asyncio.shield(run)
                except asyncio.CancelledError:
                    await run
                    raise
                await asyncio.sleep(self.pause_s * (1 + random.uniform(-JITTER, JITTER)))  # noqa: S311
        finally:
            thread.shutdown(wait=False)

    def run_once(self) -> None:
        """Run the job now, in this thread; what it raises is logged, once for as long as it stays the same."""
        started = time.thread_time()  # waiting, as for a lock of the database, is no work
        try:
            self._job()
        except ModelyardError as error:
            self._failed(str(error), None)
        except Exception as error:  # a bug must not end the job for good
            self._failed(f"{type(error).__name__}: {error}", error)
        else:
            if self._problem is not None:
                log.info("The background job %s works again", self._name)
            self._problem = None
        finally:
            self._took_s = time.thread_time() - started
            self._runs += 1

    def _failed(self, problem: str, bug: Exception | None) -> None:
        if problem != self._problem:
            log.error("The background job %s failed: %s", self._name, problem, exc_info=bug)
        self._problem = problem
