"""A single base model behind an OpenAI-compatible endpoint, for those who call it without a composite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from modelyard.catalog import BaseModel, Composite
from modelyard.errors import InvalidSetting
from modelyard.generation.dispatch import Dispatcher
from modelyard.routing.router import ModelRouter
from modelyard.types import Candidate, Delta, Draft, Message, Passage, Route
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.breaker import BreakerRules

# There is nothing else to call: a breaker would only turn a failure into another one.
NEVER_OPEN: Final = BreakerRules(consecutive=1 << 62, failure_rate=2.0)


class OpenAICompatible:
    """Drafts answers with a model of the catalogue whose kind is `openai`.

    Raises:
        InvalidSetting: The catalogue gives the model no address.
    """

    def __init__(self, model: BaseModel, client: Upstream) -> None:
        if not model.deployments:
            raise InvalidSetting(f"The catalogue gives the model {model.name!r} no base_url, so it cannot be called.")
        self.name = model.name
        self._spec = Composite(model.name, "A base model, asked for by name.", (model.name,), model.name)
        self._route = Route(model.name, (Candidate(model.name, None, 0.0),), "direct", ("asked for by name",))
        router = ModelRouter({model.name: model}, DeploymentStates(NEVER_OPEN))
        self._dispatcher = Dispatcher(router, client, {})

    async def generate(self, message: Message, passages: Sequence[Passage]) -> Draft:
        """Draft an answer.

        Raises:
            InvalidInput: The model cannot answer this.
            UpstreamError: The endpoint failed, after retries where these make sense.
        """
        return await self._dispatcher.generate(message, self._route, passages, self._spec)

    async def stream(self, message: Message, passages: Sequence[Passage]) -> AsyncGenerator[Delta | Draft]:
        """Yield pieces as they come and the whole `Draft` last.

        Raises:
            InvalidInput: The model cannot answer this.
            UpstreamError: The endpoint failed, or its stream broke off.
        """
        async with aclosing(self._dispatcher.stream(message, self._route, passages, self._spec)) as pieces:
            async for piece in pieces:
                yield piece
