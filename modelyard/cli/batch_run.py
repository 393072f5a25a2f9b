"""Gets a file of requests answered as batches of an endpoint; what was answered is never asked again, also after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from modelyard.catalog import BaseModel, Deployment
from modelyard.cli.batch_files import Answers, Requests, State
from modelyard.control.offline import Charged, batch_usage, most, record, row_id
from modelyard.errors import BudgetExceeded, InvalidInput, UpstreamError
from modelyard.storage import Database
from modelyard.upstream import Endpoint
from modelyard.upstream.offline import Batch, OfflineBatches
from modelyard.upstream.offline_files import LONGEST_FILE, MOST_REQUESTS, BatchPath, BatchRequest
from modelyard.upstream.wire import encode

CHUNK: Final = 200  # results that are written together
NO_API: Final = frozenset({404, 405, 501})  # what an endpoint without batches says
ROOM: Final = 0.9  # of a batch's longest file that is filled; lines grow a little on their way


@dataclass(slots=True)
class Run:
    """One run of the command.

    Attributes:
        requests: What is to be answered.
        answers: Where answers go.
        model: What answers.
        deployment: Where.
        database: Where usage goes, for `project_id`.
        ceiling_usd: Most that all answers may cost, earlier runs included.
        say: Takes a line of progress.
        batches: Ids of the batches that this run looked after.
        stopped: Why it ended before everything was tried.
    """

    requests: Requests
    answers: Answers
    model: BaseModel
    deployment: Deployment
    database: Database
    project_id: str | None = None
    ceiling_usd: float | None = None
    say: Callable[[str], None] = print
    batches: list[str] = field(default_factory=list[str])
    stopped: BudgetExceeded | None = None
    _tried: set[str] = field(default_factory=set[str])

    def open(self) -> Iterator[BatchRequest]:
        """Yield the requests that have no answer and were not tried in this run."""
        for request in self.requests.asked:
            if request.custom_id not in self._tried and not self.answers.answered(request.custom_id):
                yield request

    def resume(self, *, one_by_one: bool) -> int:
        """Take up what an earlier run left, and return how many requests it had answered.

        Raises:
            InvalidInput: The answers are those of other requests, or of another model, or a batch is under way elsewhere.
        """
        path, state = self.answers.path, self.answers.state
        if state is None and not self.answers.charged:
            state = self.answers.state = State(self.requests.digest, self.model.name, self.deployment.name)
        if state is None or (state.requests, state.model) != (self.requests.digest, self.model.name):
            raise InvalidInput(f"{path} was begun for other requests or another model: give another --out.")
        if state.batch is not None and one_by_one:
            raise InvalidInput(
                f"The batch {state.batch} of {path} is under way: take it home without --without-batch-api first."
            )
        if state.batch is not None and state.deployment != self.deployment.name:
            raise InvalidInput(
                f"A batch of {path} is under way at the deployment {state.deployment!r}: name it with --deployment."
            )
        self.answers.state = replace(state, deployment=self.deployment.name)
        return sum(self.answers.answered(request.custom_id) for request in self.requests.asked)

    async def begin(self) -> None:
        """Record what earlier runs were answered and may not have come to record."""
        await record(self.database, list(self.answers.charged.values()), self.model, project_id=self.project_id)

    async def keep(self, charged: Sequence[Charged]) -> None:
        """Write and record results."""
        self.answers.add(*charged)
        await record(self.database, charged, self.model, project_id=self.project_id)

    def fits(self, cost_usd: float) -> bool:
        """Whether so much more is sure to stay under the ceiling."""
        return self.ceiling_usd is None or self.answers.spent_usd + cost_usd <= self.ceiling_usd

    def stop(self, cost_usd: float) -> None:
        """Say that the next request costs too much."""
        spent = self.answers.spent_usd
        self.stopped = BudgetExceeded(
            f"The next request may cost up to {cost_usd:.6f} USD; with the {spent:.6f} USD spent that would pass the ceiling "
            f"of {self.ceiling_usd:g} USD."
        )

    def fitting(self) -> list[BatchRequest]:
        """Return the next requests that are sure to fit into one batch and under the ceiling; says so where none does."""
        taken, size, cost = list[BatchRequest](), 0, 0.0
        for request in self.open():
            size += len(encode(request.body)) + len(request.custom_id) + 200
            cost += most(self.model, request, self.deployment.batch_price_factor)
            if not self.fits(cost):
                if not taken:
                    self.stop(cost)
                break
            if taken and (len(taken) >= MOST_REQUESTS or size > ROOM * LONGEST_FILE):
                break
            taken.append(request)
        return taken

    def tried(self, requests: Sequence[BatchRequest]) -> None:
        """Remember that requests were sent in this run."""
        self._tried.update(request.custom_id for request in requests)


async def by_batches(run: Run, *, every_s: float, wait: bool = True) -> bool:
    """Send the requests as batches, one after the other, and take the results home; a batch of an earlier run comes first.

    A process that is killed in the moment between the endpoint's taking a batch and its id's being written will send it again.

    Returns:
        False where a batch is left under way because nobody is to `wait`.

    Raises:
        InvalidInput: The endpoint has no batches, or refuses this one.
        UpstreamError: The endpoint failed.
    """
    endpoint = endpoint_of(run.model, run.deployment)
    path: BatchPath = "/v1/embeddings" if run.model.embeddings else "/v1/chat/completions"
    path = "/v1/moderations" if run.model.moderations else path
    async with OfflineBatches(endpoint) as batches:
        while True:
            state = run.answers.state
            if state is None:
                raise RuntimeError("a run begins with a state")
            if state.batch is None:
                requests = run.fitting()
                if not requests:
                    return True
                state = replace(state, batch=await _submitted(run, batches, requests, path))
                run.answers.state = state
                run.tried(requests)
            identifier = state.batch or ""
            run.batches.append(identifier)
            batch = await (
                batches.wait(identifier, every_s=every_s, seen=_told(run)) if wait else batches.poll(identifier)
            )
            if not batch.ended:
                run.say(f"batch {batch.id} is {batch.status}; the same command takes its answers home")
                return False
            await _take_home(run, batches, batch)
            run.answers.state = replace(state, batch=None)
            if batch.status == "failed":
                raise InvalidInput(
                    f"The endpoint refuses the batch {batch.id}: {batch.problem or 'it gave no reason'}."
                )


async def _submitted(run: Run, batches: OfflineBatches, requests: Sequence[BatchRequest], path: BatchPath) -> str:
    try:
        batch = await batches.submit(requests, path=path)
    except UpstreamError as error:
        if error.status not in NO_API:
            raise
        raise InvalidInput(
            f"The endpoint of the deployment {run.deployment.name!r} has no batch API (status {error.status}): "
            "--without-batch-api sends the requests one by one, at the full price."
        ) from error
    run.say(f"batch {batch.id}: {len(requests)} requests sent")
    return batch.id


def _told(run: Run) -> Callable[[Batch], None]:
    """Return what says how a batch stands, where that is something new."""
    last = list[tuple[str, int, int]]()

    def seen(batch: Batch) -> None:
        now = (batch.status, batch.completed, batch.failed)
        if now not in last[-1:]:
            last.append(now)
            run.say(
                f"batch {batch.id}: {batch.status}, {batch.completed} of {batch.total} answered, {batch.failed} failed"
            )

    return seen


async def _take_home(run: Run, batches: OfflineBatches, batch: Batch) -> None:
    requests = {request.custom_id: request for request in run.requests.asked}
    factor, name, chunk = run.deployment.batch_price_factor, run.deployment.name, list[Charged]()
    async for result in batches.results(batch):
        usage = batch_usage(run.model, result, factor, requests.get(result.custom_id))
        chunk.append(Charged(row_id(batch.id, result.custom_id), result, usage, name, factor))
        run.tried([BatchRequest(result.custom_id, {})])
        if len(chunk) >= CHUNK:
            await run.keep(chunk)
            chunk = []
    await run.keep(chunk)


def endpoint_of(model: BaseModel, deployment: Deployment) -> Endpoint:
    """Return where a deployment is reached."""
    return Endpoint(
        model.name,
        deployment.base_url,
        model.upstream_name(deployment),
        deployment.api_key_env,
        deployment.timeout_s,
    )
