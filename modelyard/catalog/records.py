"""The catalogue's frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelyard.errors import UnknownModel

Kind = Literal["local", "openai", "recorded"]
LocalMethod = Literal["sentence", "passages"]


@dataclass(frozen=True, slots=True)
class Price:
    """A list price: `input` and `output` in USD per million tokens, `request` in USD per call."""

    input: float = 0.0
    output: float = 0.0
    request: float = 0.0

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the price of one call in USD."""
        return self.request + (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that drafts answers.

    Attributes:
        name: The catalogue's name, as in outcome tables.
        kind: `local` answers in process, `openai` calls an OpenAI-compatible endpoint, `recorded` is only known from outcome tables.
        price: List price.
        context_window: Longest prompt and answer together, in tokens.
        output_tokens: Typical length of an answer, for the cost estimate before a call.
        method: How a local model answers.
        base_url: Endpoint of an `openai` model, up to and including `/v1`.
        api_key_env: Name of the environment variable that holds its key.
        upstream_model: Its name at the endpoint, where that differs.
        enabled: Whether serving may choose it.
    """

    name: str
    kind: Kind
    price: Price
    context_window: int = 8192
    output_tokens: int = 250
    method: LocalMethod | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    upstream_model: str | None = None
    enabled: bool = True

    @property
    def served(self) -> bool:
        """Whether this model can draft an answer now."""
        return self.enabled and self.kind != "recorded"

    def expected_cost(self, prompt_tokens: float) -> float:
        """Return the expected cost in USD of answering a prompt of that many tokens."""
        return self.price.cost(prompt_tokens, self.output_tokens)


@dataclass(frozen=True, slots=True)
class Composite:
    """A composite model.

    Attributes:
        name: What an application asks for.
        description: One line for a person.
        candidates: Base models the policy may choose, cheapest first.
        fallback: The model of the static policy, used while no router is registered.
        passages: How many passages retrieval puts before the model; 0 switches retrieval off.
        cost_weight: λ in `score − λ × cost`, in score per USD; None takes the registered router's own.
    """

    name: str
    description: str
    candidates: tuple[str, ...]
    fallback: str
    passages: int = 4
    cost_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every base model and composite by name."""

    models: Mapping[str, BaseModel]
    composites: Mapping[str, Composite]

    def model(self, name: str) -> BaseModel:
        """Return a base model.

        Raises:
            UnknownModel: The catalogue has none of that name.
        """
        try:
            return self.models[name]
        except KeyError:
            raise UnknownModel(
                f"No base model is called {name!r}; served here are {', '.join(self.served) or 'none'}."
            ) from None

    def composite(self, name: str) -> Composite:
        """Return a composite.

        Raises:
            UnknownModel: The catalogue has none of that name.
        """
        try:
            return self.composites[name]
        except KeyError:
            raise UnknownModel(
                f"No composite model is called {name!r}; there are {', '.join(sorted(self.composites)) or 'none'}."
            ) from None

    def price(self, name: str) -> Price:
        """Return a base model's list price.

        Raises:
            UnknownModel: The catalogue has no price for it.
        """
        if name not in self.models:
            raise UnknownModel(f"The catalogue has no price for the model {name!r}; give one with --prices FILE.toml.")
        return self.models[name].price

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the base models that can draft an answer."""
        return tuple(name for name, model in self.models.items() if model.served)
