"""The catalogue's frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelyard.errors import UnknownModel
from modelyard.types import Capability

Kind = Literal["local", "openai", "recorded"]
LocalMethod = Literal["sentence", "passages"]
Sticky = Literal["off", "conversation"]

IMAGE_TOKENS: Final = 5_000  # more than an image takes with all but a few models, which the catalogue can name


@dataclass(frozen=True, slots=True)
class Price:
    """A list price: `input`, `output` and `cached_input` in USD per million tokens, `request` in USD per call.

    `cached_input` is the price of prompt tokens that the endpoint read from its cache; None is that of `input`.
    """

    input: float = 0.0
    output: float = 0.0
    request: float = 0.0
    cached_input: float | None = None

    def cost(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
        """Return the price of one call in USD; the cached tokens are among the prompt's."""
        usd = self.request + (self.input * prompt_tokens + self.output * completion_tokens) / 1e6
        if self.cached_input is not None and cached_tokens > 0:
            usd -= (self.input - self.cached_input) * min(cached_tokens, prompt_tokens) / 1e6
        return usd


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a base model is reached.

    Attributes:
        name: Unique in the catalogue: the model's name where the model gives its address itself, else `<model>/<key>`.
        model: The base model that it serves.
        base_url: Its address, up to and including `/v1`.
        api_key_env: Name of the environment variable that holds its key; None where it needs none.
        upstream_model: The model's name there; None takes the base model's.
        weight: Its share among equally loaded deployments of the model.
        max_concurrent: Most calls at a time.
        timeout_s: Longest time for one call; None takes the settings'.
        enabled: Whether it may be called.
        batch_price_factor: What its offline batches cost beside calls at once.
    """

    name: str
    model: str
    base_url: str
    api_key_env: str | None = None
    upstream_model: str | None = None
    weight: float = 1.0
    max_concurrent: int = 64
    timeout_s: float | None = None
    enabled: bool = True
    batch_price_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that drafts answers, embeds texts, or moderates them.

    Attributes:
        name: The catalogue's name, as in outcome tables.
        kind: `local` answers in process, `openai` calls an OpenAI-compatible endpoint, `recorded` is only known from outcome tables.
        price: List price.
        context_window: Longest prompt and answer together, in tokens.
        output_tokens: Typical length of an answer, for the cost estimate before a call.
        method: How a local model answers.
        base_url: Endpoint of an `openai` model that gives it itself, up to and including `/v1`.
        api_key_env: Name of the environment variable that holds that endpoint's key.
        upstream_model: The model's name at its deployments, where that differs.
        enabled: Whether serving may choose it.
        deployments: Where an `openai` model is reached; one made of `base_url` where none are given.
        capabilities: What it can do beyond text.
        max_output_tokens: Longest answer; None where only the context window limits it.
        embeddings: Whether it embeds texts instead of answering.
        moderations: Whether it says what is wrong with texts instead of answering.
        image_tokens: Most tokens that an image in a prompt takes.
        price_from: Which list price of genai-prices was taken, as `provider/model`; None for a price of one's own, or none.
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
    deployments: tuple[Deployment, ...] = ()
    capabilities: frozenset[Capability] = frozenset()
    max_output_tokens: int | None = None
    embeddings: bool = False
    moderations: bool = False
    price_from: str | None = None
    image_tokens: int = IMAGE_TOKENS

    def __post_init__(self) -> None:
        """Make the one deployment of a model that gives its address itself."""
        if self.kind == "openai" and self.base_url and not self.deployments:
            only = Deployment(self.name, self.name, self.base_url, self.api_key_env)
            object.__setattr__(self, "deployments", (only,))

    @property
    def available(self) -> bool:
        """Whether it is switched on and, behind an endpoint, one of its deployments is."""
        if self.kind == "openai":
            return self.enabled and any(deployment.enabled for deployment in self.deployments)
        return self.enabled and self.kind == "local"

    @property
    def served(self) -> bool:
        """Whether this model can draft an answer now."""
        return self.available and self.drafts

    @property
    def drafts(self) -> bool:
        """Whether it is a model that drafts answers at all."""
        return not (self.embeddings or self.moderations)

    def upstream_name(self, deployment: Deployment) -> str:
        """Return the model's name at one of its deployments."""
        return deployment.upstream_model or self.upstream_model or self.name

    def expected_cost(self, prompt_tokens: float) -> float:
        """Return the expected cost in USD of answering a prompt of that many tokens."""
        return self.price.cost(prompt_tokens, self.output_tokens)


@dataclass(frozen=True, slots=True)
class Composite:
    """A composite model, as it is served: models that are switched off stand in none of its lists but `left_out`.

    Attributes:
        name: What an application asks for.
        description: One line for a person.
        candidates: Base models the policy may choose, cheapest first.
        fallback: The model of the static policy, used while no router is registered.
        passages: How many passages retrieval puts before the model; 0 switches retrieval off.
        cost_weight: λ in `score − λ × cost`, in score per USD; None takes the registered router's own.
        fallbacks: Base models tried after all candidates failed, in order.
        equal_margin: Candidates predicted at most this far below the chosen one, 0..1, count as its equals: load decides between them.
        sticky: Whether a conversation stays with the model that it began with.
        switch_weight: Share of the lost prompt cache's cost that counts when a conversation changes its model.
        response_cache_s: How long an answer serves the very same request again, in seconds; 0 switches that off.
        enabled: Whether applications may ask for it.
        left_out: Models that it names and that are switched off now.
        response_cache_shared: Whether an answer serves all keys of the project that got it, and not only the key that did.
    """

    name: str
    description: str
    candidates: tuple[str, ...]
    fallback: str
    passages: int = 4
    cost_weight: float | None = None
    fallbacks: tuple[str, ...] = ()
    equal_margin: float = 0.0
    sticky: Sticky = "off"
    switch_weight: float = 1.0
    response_cache_s: float = 0.0
    enabled: bool = True
    left_out: tuple[str, ...] = ()
    response_cache_shared: bool = False


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every base model and composite by name; `notices` says in one sentence each what an operator should know about them."""

    models: Mapping[str, BaseModel]
    composites: Mapping[str, Composite]
    notices: tuple[str, ...] = ()

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
        """Return a composite, also one that is switched off.

        Raises:
            UnknownModel: The catalogue has none of that name.
        """
        try:
            return self.composites[name]
        except KeyError:
            raise UnknownModel(
                f"No composite model is called {name!r}; there are {', '.join(sorted(self.composites)) or 'none'}."
            ) from None

    def deployment(self, name: str) -> Deployment:
        """Return a deployment, also one that is switched off.

        Raises:
            UnknownModel: The catalogue has none of that name.
        """
        for deployment in self.deployments:
            if deployment.name == name:
                return deployment
        names = ", ".join(sorted(deployment.name for deployment in self.deployments))
        raise UnknownModel(f"No deployment is called {name!r}; there are {names or 'none'}.")

    def price(self, name: str) -> Price:
        """Return a base model's list price.

        Raises:
            UnknownModel: The catalogue has no price for it.
        """
        if name not in self.models:
            raise UnknownModel(f"The catalogue has no price for the model {name!r}; give one with --prices FILE.toml.")
        return self.models[name].price

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """Every deployment of every model."""
        return tuple(deployment for model in self.models.values() for deployment in model.deployments)

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the base models that can draft an answer."""
        return tuple(name for name, model in self.models.items() if model.served)

    @property
    def embedders(self) -> tuple[str, ...]:
        """Names of the base models that can embed texts now."""
        return tuple(name for name, model in self.models.items() if model.available and model.embeddings)

    @property
    def moderators(self) -> tuple[str, ...]:
        """Names of the base models that can moderate texts now."""
        return tuple(name for name, model in self.models.items() if model.available and model.moderations)

    @property
    def offered(self) -> Mapping[str, Literal["composite", "base"]]:
        """What applications may ask for to get an answer: a composite hides a base model of the same name."""
        composites = (name for name, composite in self.composites.items() if composite.enabled)
        found: dict[str, Literal["composite", "base"]] = dict.fromkeys(self.served, "base")
        found.update(dict.fromkeys(composites, "composite"))
        return found
