"""`POST /v1/moderations`: passed on to a base model that moderates, gathered with others of the same moment."""

from __future__ import annotations

from typing import Any, Final, Literal

from modelyard.catalog import BaseModel, Catalog
from modelyard.errors import UnknownModel, UpstreamError
from modelyard.generation.course import Trail
from modelyard.serving.gathering import Gathering
from modelyard.types import new_id
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.batching import BatcherStats


class Moderators:
    """Moderates with base models.

    Args:
        upstream: The HTTP client.
        states: What is known of each deployment.
    """

    kind: Final[Literal["moderation"]] = "moderation"

    def __init__(self, upstream: Upstream, states: DeploymentStates) -> None:
        self._gathering = Gathering(upstream.moderate, "results", upstream, states)

    @staticmethod
    def names(catalog: Catalog) -> tuple[str, ...]:
        """Return the models that moderate."""
        return catalog.moderators

    def model(self, catalog: Catalog, name: str | None) -> BaseModel:
        """Return the base model that moderates under that name; the catalogue's first one where no name is given.

        Raises:
            UnknownModel: There is none.
        """
        known = catalog.moderators
        if name is None and known:
            return catalog.models[known[0]]
        if name not in known:
            asked = "No model" if name is None else f"No model called {name!r}"
            raise UnknownModel(f"{asked} moderates; those that do are {', '.join(sorted(known)) or 'none'}.")
        return catalog.models[name]

    def work(self, catalog: Catalog, model: BaseModel, body: dict[str, Any], owner: str | None) -> ModerationWork:
        """Return what moderates one request; see `Embedders.work`."""
        return ModerationWork(self._gathering, catalog, model, body)

    def stats(self) -> BatcherStats:
        """Return what micro-batching did since the start."""
        return self._gathering.stats()

    async def close(self) -> None:
        """End the calls under way."""
        await self._gathering.close()


class ModerationWork:
    """Moderates one request; made by `Moderators.work`."""

    def __init__(self, gathering: Gathering, catalog: Catalog, model: BaseModel, body: dict[str, Any]) -> None:
        self._gathering, self._catalog, self._model, self._body = gathering, catalog, model, body

    def remembered(self) -> dict[str, Any] | None:
        """Return None: verdicts are not remembered, since a moderator changes under its name."""
        return None

    async def answer(self, trail: Trail) -> dict[str, Any]:
        """Return the response of the first deployment that gives one.

        Raises:
            UpstreamError: Every call failed.
            LimitExceeded: Too much is waiting already.
        """
        course = self._gathering.course(self._catalog, self._model, trail)
        while True:
            target = await course.next()
            try:
                response = await self._gathering.ask(target, self._body, trail, course.why)
            except UpstreamError as error:
                course.failed(target, error)
            else:
                return {"id": new_id("modr"), "model": self._model.name, "results": response["results"]}
