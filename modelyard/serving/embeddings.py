"""`POST /v1/embeddings`: single inputs are remembered, and those that are not known are asked of a base model that embeds.

Vectors of different models cannot be compared. What is remembered is therefore kept apart by embedding space, and a response holds vectors
of one space only, also where the deployments of a model embed with different models.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from modelyard.catalog import BaseModel, Catalog, Deployment
from modelyard.control.caches import Cache, Caches, Embedding
from modelyard.control.embedding_cache import RememberedInputs
from modelyard.errors import UnknownModel, UpstreamError
from modelyard.generation.course import Trail
from modelyard.serving.gathering import Gathering
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.batching import BatcherStats

Space = tuple[str, ...]


class Embedders:
    """Embeds with base models.

    Args:
        upstream: The HTTP client.
        states: What is known of each deployment.
        caches: Where single inputs are remembered.
    """

    kind: Final[Literal["embedding"]] = "embedding"

    def __init__(self, upstream: Upstream, states: DeploymentStates, caches: Caches) -> None:
        self._cache = caches.embeddings
        self._gathering = Gathering(upstream.embed, "data", upstream, states)

    @staticmethod
    def names(catalog: Catalog) -> tuple[str, ...]:
        """Return the models that embed."""
        return catalog.embedders

    def model(self, catalog: Catalog, name: str | None) -> BaseModel:
        """Return the base model that embeds under that name.

        Raises:
            UnknownModel: There is none.
        """
        model = catalog.models.get(name or "")
        if model is None or not (model.embeddings and model.available):
            known = ", ".join(sorted(catalog.embedders)) or "none"
            raise UnknownModel(f"No model called {name!r} embeds; those that do are {known}.")
        return model

    def work(self, catalog: Catalog, model: BaseModel, body: dict[str, Any], owner: str | None) -> EmbeddingWork:
        """Return what embeds one request.

        Args:
            catalog: As it is now.
            model: Of the catalogue.
            body: The request.
            owner: The API key's id: what is remembered for one key is not told to another.
        """
        return EmbeddingWork(self._gathering, self._cache, catalog, model, body, owner)

    def stats(self) -> BatcherStats:
        """Return what micro-batching did since the start."""
        return self._gathering.stats()

    async def close(self) -> None:
        """End the calls under way."""
        await self._gathering.close()


class EmbeddingWork:
    """Embeds one request; made by `Embedders.work`."""

    def __init__(
        self,
        gathering: Gathering,
        cache: Cache[Embedding],
        catalog: Catalog,
        model: BaseModel,
        body: dict[str, Any],
        owner: str | None,
    ) -> None:
        self._gathering, self._cache, self._catalog = gathering, cache, catalog
        self._model, self._body, self._owner = model, body, owner
        self._looked = dict[Space, RememberedInputs]()

    def remembered(self) -> dict[str, Any] | None:
        """Return the response where all of it is remembered, of one embedding space; else None."""
        for place in self._model.deployments:
            if place.enabled and (inputs := self._inputs(place)).missing is None:
                return self._response(inputs, None)
        return None

    async def answer(self, trail: Trail) -> dict[str, Any]:
        """Return the response, calling deployments until one of them has embedded what its embedding space does not know yet.

        Raises:
            UpstreamError: Every call failed.
            LimitExceeded: Too much is waiting already.
        """
        course = self._gathering.course(self._catalog, self._model, trail)
        while True:
            target = await course.next()
            inputs = self._inputs(target.deployment)
            try:
                response = None
                if inputs.missing is not None:
                    response = await self._gathering.ask(target, inputs.missing, trail, course.why)
                return self._response(inputs, response)
            except UpstreamError as error:
                course.failed(target, error)

    def _inputs(self, deployment: Deployment) -> RememberedInputs:
        """Return what is known in a deployment's embedding space; looked up once."""
        space = embedding_space(self._model, deployment)
        found = self._looked.get(space)
        if found is None:
            found = RememberedInputs.look_up(self._cache, space, self._body, owner=self._owner)
            self._looked[space] = found
        return found

    def _response(self, inputs: RememberedInputs, response: dict[str, Any] | None) -> dict[str, Any]:
        return {**inputs.answer(self._cache, response), "model": self._model.name}


def embedding_space(model: BaseModel, deployment: Deployment) -> Space:
    """Return the embedding space of a deployment: its model's name there, and every address where that name is served.

    A model that moves to another address may be another one of the same name; several addresses at a time are taken to serve the same.
    """
    name = model.upstream_name(deployment)
    return (model.name, name, *sorted({d.base_url for d in model.deployments if model.upstream_name(d) == name}))
