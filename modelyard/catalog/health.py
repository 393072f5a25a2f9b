"""Asks every deployment from time to time whether it is there, so that an outage is known before a caller runs into it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from modelyard.catalog.records import BaseModel, Catalog, Deployment
from modelyard.errors import UpstreamError
from modelyard.upstream.client import Upstream
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.state import DeploymentState, DeploymentStates

log = logging.getLogger("modelyard.catalog")

Health = Literal["up", "down", "unknown", "off"]

# Refusals of the list of models by something that is there: the key may call models only, or too many asked.
ALIVE: Final = frozenset({403, 429})


class HasCatalog(Protocol):
    """Whoever knows the catalogue as it is now, such as the `ModelManager`."""

    @property
    def catalog(self) -> Catalog:
        """The catalogue as it is now."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeRules:
    """How deployments are probed.

    Attributes:
        interval_s: From the end of one round of probes to the start of the next.
        timeout_s: Longest time for one probe.
        jitter: Share of the interval over which a round's probes, and the rounds of several servers, are spread.
        at_once: Most probes at a time.
    """

    interval_s: float = 15.0
    timeout_s: float = 5.0
    jitter: float = 0.2
    at_once: int = 16


class HealthMonitor:
    """Probes the deployments that may be called, with `GET {base_url}/models`, and tells their states.

    Belongs to the event loop of the states and the client. States of deployments that left the catalogue are forgotten.

    Args:
        source: Whoever knows the catalogue.
        states: What is told; calls feed the same states.
        upstream: The HTTP client.
        rules: How deployments are probed.
        draw: A random number in 0..1.
    """

    def __init__(
        self,
        source: HasCatalog,
        states: DeploymentStates,
        upstream: Upstream,
        rules: ProbeRules | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._source, self._states, self._upstream = source, states, upstream
        self._rules, self._draw = rules or ProbeRules(), draw
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether rounds are made."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Begin with a first round at once; a monitor that runs goes on as it does."""
        if not self.running:
            self._task = asyncio.create_task(self._rounds(), name="modelyard-health")

    async def stop(self) -> None:
        """End, with the probes under way; a monitor that does not run stays so."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def probe_all(self, *, spread_s: float = 0.0) -> None:
        """Probe every deployment that may be called once.

        Args:
            spread_s: Time over which the probes begin.
        """
        catalog = self._source.catalog
        self._states.keep(frozenset(catalog.models) | {deployment.name for deployment in catalog.deployments})
        places = asyncio.Semaphore(self._rules.at_once)

        async def probe(model: BaseModel, deployment: Deployment) -> None:
            await asyncio.sleep(spread_s * self._draw())
            async with places:
                await self._probe(model, deployment)

        async with asyncio.TaskGroup() as group:
            for model, deployment in _callable(catalog):
                group.create_task(probe(model, deployment))

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return for each deployment of the catalogue its health and its state's facts, JSON-ready, by name."""
        catalog = self._source.catalog
        return {
            deployment.name: {
                "model": model.name,
                "health": _health(model, deployment, self._states[deployment.name]),
                **self._states[deployment.name].snapshot(),
            }
            for model in catalog.models.values()
            for deployment in model.deployments
        }

    async def _rounds(self) -> None:
        spread_s = self._rules.interval_s * self._rules.jitter
        while True:
            try:
                await self.probe_all(spread_s=spread_s)
            except Exception:  # whatever goes wrong in one round, the next one is made
                log.exception("A round of probes failed.")
            await asyncio.sleep(self._rules.interval_s + spread_s * (self._draw() - 0.5))

    async def _probe(self, model: BaseModel, deployment: Deployment) -> None:
        endpoint = Endpoint(
            deployment.name,
            deployment.base_url,
            deployment.upstream_model or model.upstream_model or model.name,
            deployment.api_key_env,
        )
        clock = asyncio.get_running_loop().time
        started, state = clock(), self._states[deployment.name]
        was_well = state.probe is None or state.probe["ok"]
        try:
            result: float | UpstreamError = await self._upstream.probe(endpoint, self._rules.timeout_s)
        except UpstreamError as error:
            result = (clock() - started) * 1000 if error.status in ALIVE else error
        state.probed(result)
        if was_well and isinstance(result, UpstreamError):
            log.warning("A probe failed: %s", result)
        elif not was_well and not isinstance(result, UpstreamError):
            log.warning("The deployment %r is back.", deployment.name)


def _callable(catalog: Catalog) -> Iterator[tuple[BaseModel, Deployment]]:
    for model in catalog.models.values():
        if model.available:
            yield from ((model, deployment) for deployment in model.deployments if deployment.enabled)


def _health(model: BaseModel, deployment: Deployment, state: DeploymentState) -> Health:
    if not (model.enabled and deployment.enabled):
        return "off"
    if state.breaker.state != "closed" or (state.probe is not None and not state.probe["ok"]):
        return "down"
    return "up" if state.probe is not None or state.outcomes["ok"] else "unknown"
