"""Calls of models that answer inputs one by one, gathered with others of the same moment; a failed one is followed by another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelyard.catalog import BaseModel, Catalog
from modelyard.errors import UpstreamError
from modelyard.generation.course import Course, Trail
from modelyard.generation.dispatch import TOTAL_TIMES
from modelyard.routing.router import ModelRouter, Order, Target
from modelyard.types import Attempt, AttemptOutcome, Usage
from modelyard.upstream import DeploymentState, DeploymentStates, Endpoint, Upstream
from modelyard.upstream.batching import BatcherStats, MicroBatcher
from modelyard.upstream.sharing import Body, estimated_tokens, inputs_of, tokens_used
from modelyard.upstream.wire import prompt_count

Request = Callable[[Endpoint, Mapping[str, Any]], Awaitable[dict[str, Any]]]
Entries = Literal["data", "results"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call goes. A deployment that was changed is another place: nobody gets the answer of a model that was not asked for."""

    name: str
    endpoint: Endpoint
    state: DeploymentState


class Gathering:
    """Calls deployments with gathered requests, and keeps account of each call on the trail of the request that it was made for.

    Args:
        request: Makes one call of an endpoint.
        entries: Name of the list in its response.
        upstream: Whose retries and timeouts are kept to.
        states: What is known of each deployment.
    """

    def __init__(self, request: Request, entries: Entries, upstream: Upstream, states: DeploymentStates) -> None:
        self._request, self._upstream, self._states = request, upstream, states
        self._batcher: MicroBatcher[Place] = MicroBatcher(self._call, entries=entries)
        self._router: tuple[Catalog, ModelRouter] | None = None

    def course(self, catalog: Catalog, model: BaseModel, trail: Trail) -> Course:
        """Return what says which deployment of the model is called next."""
        retries = self._upstream.retries
        total_s = TOTAL_TIMES * self._upstream.timeouts.total_s if retries.total_s is None else retries.total_s
        deadline = asyncio.get_running_loop().time() + total_s
        return Course(self._router_of(catalog), Order((model,)), retries, deadline, trail)

    async def ask(self, target: Target, body: Body, trail: Trail, why: str) -> dict[str, Any]:
        """Return a deployment's response, and note the call on the trail, whatever came of it.

        A caller who leaves pays for the call: it may have been made, with the inputs of others.

        Raises:
            UpstreamError: The call failed.
            LimitExceeded: Too much is waiting for this deployment already.
        """
        if target.endpoint is None:
            raise UpstreamError(f"{target.model.name} has no endpoint.", kind="unavailable")
        started, inputs, price = time.perf_counter(), inputs_of(body), target.model.price

        def note(outcome: AttemptOutcome, reason: str, usage: Usage | None, status: int | None) -> None:
            ms = (time.perf_counter() - started) * 1000
            trail.attempts.append(
                Attempt(target.model.name, target.deployment.name, outcome, reason, ms, status, usage)
            )

        trail.calling = target.model.name
        try:
            response = await self._batcher.submit(Place(target.deployment.name, target.endpoint, target.state), body)
        except UpstreamError as error:
            note("failed", f"{error.kind}: {error}", None, error.status)
            raise
        except asyncio.CancelledError:
            tokens = estimated_tokens(inputs)
            note("cancelled", "the caller left", Usage(tokens, 0, price.cost(tokens, 0)), None)
            raise
        tokens, estimated = tokens_used(response, inputs)
        note("ok", why, Usage(tokens, 0, price.cost(tokens, 0), estimated=estimated), 200)
        return response

    def stats(self) -> BatcherStats:
        """Return what micro-batching did since the start."""
        return self._batcher.stats()

    async def close(self) -> None:
        """End the calls under way."""
        await self._batcher.close()

    async def _call(self, place: Place, body: Body) -> dict[str, Any]:
        token, started = place.state.enter(), time.perf_counter()
        try:
            found = await self._request(place.endpoint, body)
        except UpstreamError as error:
            place.state.fail(token, error)
            raise
        except BaseException:
            place.state.cancel(token)
            raise
        place.state.succeed(token, (time.perf_counter() - started) * 1000)
        # What is no sensible number is left out before it is shared between requests, where a part of it could look like one.
        count = prompt_count(found.pop("usage", None))
        return found if count is None else {**found, "usage": {"prompt_tokens": count, "total_tokens": count}}

    def _router_of(self, catalog: Catalog) -> ModelRouter:
        if self._router is None or self._router[0] is not catalog:
            known = {name: model for name, model in catalog.models.items() if not model.drafts}
            self._router = catalog, ModelRouter(known, self._states)
        return self._router[1]
