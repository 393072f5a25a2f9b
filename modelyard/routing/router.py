"""From a route to the deployment that is called: the order in which models are tried, and the pick among a model's deployments."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from modelyard.catalog.records import BaseModel, Composite, Deployment
from modelyard.errors import ContextTooLong, InvalidInput, UpstreamError
from modelyard.types import Candidate, Capability, Route
from modelyard.upstream import DeploymentState, DeploymentStates, Endpoint

BUSY_S: Final = 1.0  # when to come back to deployments that are merely full
EQUAL_COST: Final = (
    1.1  # a model predicted equal may cost this many times the chosen one's, where no weight of cost is known
)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call asks of a model: tokens of the prompt (estimated), tokens wanted at most, and capabilities."""

    prompt_tokens: int = 0
    max_tokens: int = 0
    needs: frozenset[Capability] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment to call; `endpoint` is None for a local model."""

    model: BaseModel
    deployment: Deployment
    state: DeploymentState
    endpoint: Endpoint | None


@dataclass(frozen=True, slots=True)
class Order:
    """The models to try, in order, and why it is not the route's: who is left out, who takes whose load."""

    models: tuple[BaseModel, ...]
    reasons: tuple[str, ...] = ()


class ModelRouter:
    """Turns a policy's route into calls.

    Args:
        models: Base models by name, as far as routes and composites may name them.
        states: What is known of each deployment.
        random_source: Breaks ties between deployments that are equally loaded, by weight.
    """

    def __init__(
        self, models: Mapping[str, BaseModel], states: DeploymentStates, *, random_source: random.Random | None = None
    ) -> None:
        self._models = models
        self._random = random_source or random.Random()  # noqa: S311  (spreads load)
        self._targets = {name: tuple(_targets(model, states)) for name, model in models.items()}

    def order(self, route: Route, spec: Composite, demand: Demand) -> Order:
        """Return the models that can answer: the chosen one, the other candidates by their value, then the composite's fallbacks.

        Among candidates whose value lies within `spec.equal_margin` of the chosen one's, the one with the least load comes first.

        Raises:
            ContextTooLong: No model's context window is large enough.
            InvalidInput: No model can do what the message needs, or write as much as it wants.
            UpstreamError: Every model is disabled (kind `unavailable`).
        """
        names = self._by_value(route, spec)
        models, reasons = list[BaseModel](), list[str]()
        if names[0] != route.model:
            reasons.append(f"{names[0]} takes load off {route.model}: they are predicted equal")
        for name in dict.fromkeys((*names, *spec.fallbacks)):
            model = self._models.get(name)
            if model is None or not model.served:
                reasons.append(f"{name} is not served")
            elif problem := _unfit(model, demand):
                reasons.append(f"{name} {problem}")
            else:
                models.append(model)
        if not models:
            raise self._nobody(spec, dict.fromkeys((*names, *spec.fallbacks)), demand)
        return Order(tuple(models), tuple(reasons))

    def pick(self, model: BaseModel, avoid: Collection[str] = ()) -> Target | None:
        """Return the deployment of a model with the least load for its weight, or None where none can be called now.

        Left out are deployments that are disabled, open-circuited, resting or full, and those to `avoid`. Between equal loads, weights
        are chances.
        """
        open_ = [
            target for target in self._targets[model.name] if _open(target) and target.deployment.name not in avoid
        ]
        if len(open_) <= 1:
            return open_[0] if open_ else None
        loads = [target.state.in_flight / max(target.deployment.weight, 1e-9) for target in open_]
        least = min(loads)
        idle = [target for target, load in zip(open_, loads, strict=True) if load == least]
        if len(idle) == 1:
            return idle[0]
        return self._random.choices(idle, [max(target.deployment.weight, 1e-9) for target in idle])[0]

    def wait_s(self, model: BaseModel, avoid: Collection[str] = ()) -> float | None:
        """Return the seconds until the breaker or the rest of one of a model's deployments ends, 0 where one is over.

        None: there is none, or those that could be called are full.
        """
        return min(
            (
                target.state.retry_after_s
                for target in self._targets[model.name]
                if target.deployment.enabled
                and target.deployment.name not in avoid
                and target.state.in_flight < target.deployment.max_concurrent
            ),
            default=None,
        )

    def retry_after_s(self, models: Iterable[BaseModel]) -> float | None:
        """Return when to come back, in seconds, to models that cannot be called now; None where that makes no sense."""
        waits = [
            target.state.retry_after_s or BUSY_S
            for model in models
            for target in self._targets[model.name]
            if target.deployment.enabled
        ]
        return min(waits, default=None)

    def _by_value(self, route: Route, spec: Composite) -> list[str]:
        others = sorted(route.alternatives, key=lambda candidate: -_value(candidate, route, spec))
        if spec.equal_margin <= 0.0 or not others:
            return [route.model, *(candidate.model for candidate in others)]
        chosen = route.chosen
        equal = [candidate.model for candidate in others if _equal(candidate, chosen, route, spec)]
        head = min((chosen.model, *equal), key=self._load)
        rest = [candidate.model for candidate in others if candidate.model != head]
        return [head, *rest] if head == chosen.model else [head, chosen.model, *rest]

    def _load(self, name: str) -> float:
        """Return the share of a model's places that are taken; a model that cannot be called counts as full."""
        targets = self._targets.get(name, ())
        if not any(map(_open, targets)):
            return 1.0
        places = sum(target.deployment.max_concurrent for target in targets if target.deployment.enabled)
        return sum(target.state.in_flight for target in targets) / max(places, 1)

    def _nobody(self, spec: Composite, names: Iterable[str], demand: Demand) -> Exception:
        served = [self._models[name] for name in names if name in self._models and self._models[name].served]
        if not served:
            return UpstreamError(f"Every model of {spec.name!r} is disabled.", kind="unavailable")
        able = [model for model in served if not _missing(model, demand)]
        if not able:
            missing = ", ".join(sorted(demand.needs))
            return InvalidInput(f"No model of {spec.name!r} takes what the request needs: {missing}.")
        if all(_most(model) < demand.max_tokens for model in able):
            longest = max(map(_most, able))
            return InvalidInput(
                f"The request wants up to {demand.max_tokens} tokens, but the models of {spec.name!r} write at most {longest}."
            )
        widest = max(model.context_window for model in able)
        wanted = f" and {demand.max_tokens} more may be written" if demand.max_tokens else ""
        return ContextTooLong(
            f"The request takes about {demand.prompt_tokens} tokens{wanted}, but the context windows of {spec.name!r} "
            f"hold at most {widest}."
        )


def _targets(model: BaseModel, states: DeploymentStates) -> Iterable[Target]:
    if model.kind == "local":
        yield Target(model, Deployment(model.name, model.name, ""), states[model.name], None)
        return
    for deployment in model.deployments:
        endpoint = Endpoint(
            model.name,
            deployment.base_url,
            model.upstream_name(deployment),
            deployment.api_key_env,
            deployment.timeout_s,
        )
        yield Target(model, deployment, states[deployment.name], endpoint)


def _open(target: Target) -> bool:
    deployment = target.deployment
    # A local model cannot be out of reach, and is not slower for being asked often: no breaker, no limit.
    return deployment.enabled and (target.endpoint is None or target.state.allows(deployment.max_concurrent))


def _unfit(model: BaseModel, demand: Demand) -> str | None:
    if missing := _missing(model, demand):
        return f"does not take {', '.join(sorted(missing))}"
    if _most(model) < demand.max_tokens:
        return f"writes at most {_most(model)} tokens"
    if demand.prompt_tokens + demand.max_tokens > model.context_window:
        return f"has a context window of {model.context_window} tokens"
    return None


def _most(model: BaseModel) -> int:
    """Return the length of a model's longest answer in tokens; as good as endless where only its context window limits it."""
    return sys.maxsize if model.max_output_tokens is None else model.max_output_tokens


def _missing(model: BaseModel, demand: Demand) -> frozenset[Capability]:
    return demand.needs - model.capabilities if demand.needs else demand.needs


def _value(candidate: Candidate, route: Route, spec: Composite) -> float:
    """Return `score − λ × cost` as far as it is known: without a prediction the cheaper model counts more."""
    if candidate.quality is None:
        return -1.0 - candidate.cost_usd
    return candidate.quality - (_weight(route, spec) or 0.0) * candidate.cost_usd


def _equal(candidate: Candidate, chosen: Candidate, route: Route, spec: Composite) -> bool:
    if candidate.quality is None or chosen.quality is None:
        return False
    if _weight(route, spec) is None and candidate.cost_usd > EQUAL_COST * chosen.cost_usd:
        return False
    return _value(candidate, route, spec) >= _value(chosen, route, spec) - spec.equal_margin


def _weight(route: Route, spec: Composite) -> float | None:
    return spec.cost_weight if route.cost_weight is None else route.cost_weight
