"""Policies with nothing learned: fixed model, cheapest model, and rules over the task."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.catalog import BaseModel
from modelyard.errors import UnknownModel
from modelyard.routing.base import price_candidates
from modelyard.types import Message, Route, Task


class StaticPolicy:
    """Always the same model."""

    name = "static"

    def __init__(self, model: str) -> None:
        self.model = model

    @property
    def version(self) -> str:
        """The policy and its model."""
        return f"static:{self.model}"

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        """Choose the fixed model; see `RoutingPolicy.route`."""
        priced = price_candidates(task, candidates)
        if self.model not in [candidate.model for candidate in priced]:
            names = ", ".join(candidate.model for candidate in priced)
            raise UnknownModel(f"The static policy's model {self.model!r} is not among the candidates {names}.")
        return Route(self.model, priced, self.name, (f"the static policy always takes {self.model}",))


class CheapestPolicy:
    """The candidate with the lowest expected cost; the first of them where several are equal."""

    name = "cheapest"
    version = "cheapest"

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        """Choose by cost alone; see `RoutingPolicy.route`."""
        priced = price_candidates(task, candidates)
        chosen = min(priced, key=lambda candidate: candidate.cost_usd)
        reason = f"{chosen.model} is expected to cost least: ${chosen.cost_usd:.6f}"
        return Route(chosen.model, priced, self.name, (reason,))


class RulesPolicy:
    """The cheapest for simple tasks, the dearest for complex ones, the one in the middle (rounded up) for the rest."""

    name = "rules"
    version = "rules-1"

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        """Choose by the task's complexity; see `RoutingPolicy.route`."""
        priced = price_candidates(task, candidates)
        ladder = sorted(priced, key=lambda candidate: candidate.cost_usd)
        step = {"simple": 0, "complex": len(ladder) - 1}.get(task.complexity, len(ladder) // 2)
        chosen = ladder[step]
        reason = f"a {task.complexity} task takes step {step + 1} of {len(ladder)} on the ladder of cost"
        return Route(chosen.model, priced, self.name, (reason,))
