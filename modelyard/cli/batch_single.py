"""Gets a file of requests answered one by one, by an endpoint that has no batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from modelyard.cli.batch_run import Run, endpoint_of
from modelyard.control.offline import Charged, batch_usage, most
from modelyard.errors import GenerationError, UpstreamError
from modelyard.generation.course import Course, Trail
from modelyard.routing.router import ModelRouter, Order
from modelyard.types import new_id
from modelyard.upstream import DeploymentStates, Retries, Upstream
from modelyard.upstream.offline_files import BatchRequest, BatchResult
from modelyard.upstream.wire import counts

TOTAL_S: Final = 3600.0  # of one request, waits included
PATIENCE: Final = Retries(
    attempts=6, wait_initial_s=0.5, wait_max_s=20.0, grace_s=20.0
)  # nobody waits for a single answer here
USELESS: Final = frozenset({"auth", "not_found"})  # the next call would end alike
LOOK_S: Final = 0.05  # how often a call that waits for room under the ceiling looks
SAID: Final = 100  # requests from one line of progress to the next


async def one_by_one(run: Run, upstream: Upstream, *, concurrency: int) -> None:
    """Send the requests as calls of their own, to whichever deployment of the model is free.

    Raises:
        GenerationError: No call can work, as with a wrong key.
    """
    sender = _Sender(run, upstream)
    workers = [asyncio.create_task(sender.work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


class _Sender:
    def __init__(self, run: Run, upstream: Upstream) -> None:
        self._run, self._upstream = run, upstream
        self._router = ModelRouter({run.model.name: run.model}, DeploymentStates())
        self._queue: Iterator[BatchRequest] = run.open()
        self._under_way = dict[str, float]()
        self._done = 0

    async def work(self) -> None:
        for request in self._queue:
            cost = most(self._run.model, request, 1.0)
            if not await self._room(cost):
                return
            self._under_way[request.custom_id] = cost
            try:
                charged = await self._called(request)
            finally:
                del self._under_way[request.custom_id]
            await self._run.keep([charged])
            self._done += 1
            if self._done % SAID == 0:
                self._run.say(f"{self._done} requests tried, {self._run.answers.spent_usd:.4f} USD spent")

    async def _room(self, cost_usd: float) -> bool:
        """Wait until so much more stays under the ceiling: what is under way may cost less than it could. False: it never will."""
        while self._run.stopped is None and not self._run.fits(sum(self._under_way.values()) + cost_usd):
            if not self._under_way:
                self._run.stop(cost_usd)
                break
            await asyncio.sleep(LOOK_S)
        return self._run.stopped is None

    async def _called(self, request: BatchRequest) -> Charged:
        """Return what came of a request, after retries; one that is refused has failed, and the others go on.

        Raises:
            GenerationError: The next call would end alike.
        """
        run = self._run
        deadline = asyncio.get_running_loop().time() + TOTAL_S
        course = Course(self._router, Order((run.model,)), PATIENCE, deadline, Trail())
        while True:
            try:
                target = await course.next()
            except UpstreamError as error:
                if error.kind in USELESS:
                    raise GenerationError(str(error)) from error
                result = BatchResult(request.custom_id, problem=str(error), status=error.status)
                return Charged(new_id("batch"), result, batch_usage(run.model, result, 1.0), run.deployment.name)
            token = target.state.enter()
            try:
                body = await self._upstream.answer(
                    target.endpoint or endpoint_of(run.model, run.deployment), request.body
                )
            except UpstreamError as error:
                target.state.fail(token, error)
                course.failed(target, error)
            except BaseException:
                target.state.cancel(token)
                raise
            else:
                target.state.succeed(token, 0.0)
                tokens = counts(body.get("usage"))
                result = BatchResult(request.custom_id, body, "", 200, tokens.prompt, tokens.completion, tokens.cached)
                usage = batch_usage(run.model, result, 1.0, request)
                return Charged(new_id("batch"), result, usage, target.deployment.name)
