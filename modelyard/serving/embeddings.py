"""`POST /v1/embeddings`: passed on to a base model that embeds, gathered with others of the same moment, cached by input."""

from __future__ import annotations

import time
from typing import Any, Final

import pydantic

from modelyard.catalog import BaseModel, Catalog
from modelyard.control.caches import Caches
from modelyard.control.embedding_cache import RememberedInputs
from modelyard.errors import UnknownModel, UpstreamError
from modelyard.routing.router import ModelRouter, Target
from modelyard.serving.wire import bad_request, parse_json
from modelyard.types import Usage
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.batching import BatcherStats, MicroBatcher

MOST_INPUTS: Final = 2048  # OpenAI's own limit
ATTEMPTS: Final = 3


class _Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")


class EmbeddingsRequest(_Wire):
    """The body of `POST /v1/embeddings`; what is not named here goes to the endpoint as it is."""

    model: str = pydantic.Field(min_length=1, max_length=200)
    input: str | list[str] | list[int] | list[list[int]] = pydantic.Field(union_mode="left_to_right")
    encoding_format: str | None = None
    dimensions: int | None = pydantic.Field(default=None, ge=1)
    user: str | None = pydantic.Field(default=None, max_length=200)

    @pydantic.field_validator("input")
    @classmethod
    def _something(cls, given: Any) -> Any:
        if not given or (isinstance(given, list) and not all(given if not isinstance(given[0], int) else [1])):
            raise ValueError("input must not be empty")
        if isinstance(given, list) and not isinstance(given[0], int) and len(given) > MOST_INPUTS:
            raise ValueError(f"input must hold at most {MOST_INPUTS} texts, but got {len(given)}")
        return given

    @property
    def chars(self) -> int:
        """Length of all inputs in characters, a token counting four."""
        if isinstance(self.input, str):
            return len(self.input)
        return sum(
            len(one) if isinstance(one, str) else 4 * (len(one) if isinstance(one, list) else 1) for one in self.input
        )


def parse_embeddings_request(body: bytes) -> tuple[EmbeddingsRequest, dict[str, Any]]:
    """Read and check a request's body, and return it with what came.

    Raises:
        BadRequest: It is not JSON, or breaks a rule.
    """
    found = parse_json(body)
    try:
        return EmbeddingsRequest.model_validate(found), found
    except pydantic.ValidationError as error:
        raise bad_request(error) from None


class Embedders:
    """Calls base models that embed.

    Args:
        upstream: The HTTP client.
        states: What is known of each deployment.
        caches: Where single inputs are remembered.
    """

    def __init__(self, upstream: Upstream, states: DeploymentStates, caches: Caches) -> None:
        self._upstream, self._states, self._caches = upstream, states, caches
        self._batcher: MicroBatcher[str] = MicroBatcher(self._call)
        self._router: tuple[Catalog, ModelRouter] | None = None
        self._targets: dict[str, Target] = {}

    async def embed(
        self, catalog: Catalog, name: str, body: dict[str, Any], *, owner: str | None = None
    ) -> tuple[dict[str, Any], BaseModel, str | None, Usage]:
        """Return the response, the base model, the deployment that was asked (None where all was remembered), and what is charged.

        Args:
            catalog: As it is now.
            name: What was asked for.
            body: The request.
            owner: The API key's id: what is remembered for one key is not told to another.

        Raises:
            UnknownModel: No model of that name embeds.
            UpstreamError: Every call failed.
            LimitExceeded: Too much is waiting already.
        """
        model = catalog.models.get(name)
        if model is None or not (model.embeddings and model.available):
            known = ", ".join(sorted(catalog.embedders)) or "none"
            raise UnknownModel(f"No model called {name!r} embeds; those that do are {known}.")
        inputs = RememberedInputs.look_up(self._caches.embeddings, name, body, owner=owner)
        response, deployment = None, None
        if inputs.missing is not None:
            response, deployment = await self._ask(catalog, model, inputs.missing)
        whole = inputs.answer(self._caches.embeddings, response)
        used = (response or {}).get("usage") or {}
        tokens = int(used.get("prompt_tokens") or used.get("total_tokens") or 0)
        cost = model.price.cost(tokens, 0) if response else 0.0
        return {**whole, "model": name}, model, deployment, Usage(tokens, 0, cost, bool(response) and not used)

    async def _ask(self, catalog: Catalog, model: BaseModel, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Return the response of the first deployment that gives one, and its name."""
        router = self._router_of(catalog)
        failed: set[str] = set()
        error: UpstreamError | None = None
        for _ in range(ATTEMPTS):
            target = router.pick(model, failed)
            if target is None or target.endpoint is None:
                break
            place = target.deployment.name
            self._targets[place] = target
            try:
                return await self._batcher.submit(place, body), place
            except UpstreamError as failure:
                if failure.kind in {"rejected", "context_length", "content_policy"}:
                    raise
                error = failure
                failed.add(place)
        raise error or UpstreamError(
            f"No deployment of {model.name!r} can be called now.",
            kind="unavailable",
            retryable=True,
            retry_after_s=router.retry_after_s([model]),
        )

    def stats(self) -> BatcherStats:
        """Return what micro-batching did since the start."""
        return self._batcher.stats()

    async def close(self) -> None:
        """Wait for calls under way."""
        await self._batcher.close()

    async def _call(self, place: str, body: Any) -> dict[str, Any]:
        target = self._targets[place]
        endpoint = target.endpoint
        if endpoint is None:
            raise UpstreamError(f"{target.model.name} has no endpoint.", kind="unavailable")
        token, started = target.state.enter(), time.perf_counter()
        try:
            found = await self._upstream.embed(endpoint, body)
        except UpstreamError as error:
            target.state.fail(token, error)
            raise
        except BaseException:
            target.state.cancel(token)
            raise
        target.state.succeed(token, (time.perf_counter() - started) * 1000)
        return found

    def _router_of(self, catalog: Catalog) -> ModelRouter:
        if self._router is None or self._router[0] is not catalog:
            known = {name: model for name, model in catalog.models.items() if model.embeddings}
            self._router = catalog, ModelRouter(known, self._states)
        return self._router[1]
