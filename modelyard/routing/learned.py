"""The learned policy: predicted score minus λ × expected cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelyard.catalog import BaseModel
from modelyard.errors import UnknownModel
from modelyard.routing.model import Outlook, RouterModel
from modelyard.tasks.reading import read
from modelyard.types import Candidate, Message, Route, Task


class LearnedPolicy:
    """Chooses the candidate of highest `predicted score − λ × expected cost`; the cheaper one where two are equal."""

    name = "learned"

    def __init__(self, model: RouterModel, version: str = "unregistered") -> None:
        self.model, self._version = model, version
        self._column = {name: j for j, name in enumerate(model.models)}

    @property
    def version(self) -> str:
        """Name and registry version."""
        return self._version

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        """Choose by predicted score and expected cost; see `RoutingPolicy.route`.

        Candidates that the router was not trained on are listed without a prediction and not chosen.
        """
        weight = self.model.cost_weight if cost_weight is None else cost_weight
        forecast = self.model.forecast_one(read(message).subject)
        seen = [self._candidate(model, task, forecast) for model in candidates]
        known = [(candidate, candidate.quality) for candidate in seen if candidate.quality is not None]
        if not known:
            raise UnknownModel(
                f"The router {self.version} was trained on {', '.join(self.model.models)} "
                f"and knows none of the candidates {', '.join(model.name for model in candidates) or '(none)'}."
            )
        ranked = sorted(known, key=lambda pair: (-(pair[1] - weight * pair[0].cost_usd), pair[0].cost_usd))
        chosen = ranked[0][0]
        return Route(
            chosen.model,
            tuple(seen),
            self.name,
            self._reasons(ranked, weight),
            self._confidence(ranked, weight),
            cost_weight=weight,
        )

    def _candidate(self, model: BaseModel, task: Task, forecast: Outlook) -> Candidate:
        column = self._column.get(model.name)
        if column is None:
            return Candidate(model.name, None, model.expected_cost(task.tokens))
        cost = model.price.cost(task.tokens, forecast.output_tokens[column])
        return Candidate(model.name, forecast.scores[column], cost)

    def _confidence(self, ranked: Sequence[tuple[Candidate, float]], weight: float) -> float:
        """Return the probability that the chosen model's value is at least the runner-up's, errors taken as normal."""
        if len(ranked) == 1:
            return 1.0
        gap = _value(ranked[0], weight) - _value(ranked[1], weight)
        return 0.5 * (1.0 + math.erf(gap / (math.sqrt(2.0) * max(self.model.spread, 1e-9))))

    def _reasons(self, ranked: Sequence[tuple[Candidate, float]], weight: float) -> tuple[str, ...]:
        chosen, quality = ranked[0]
        reasons = [f"{chosen.model} is predicted to score {quality:.2f} at ${chosen.cost_usd:.6f}"]
        for other, value in ranked[1:3]:
            if value <= quality:
                reasons.append(f"{other.model} is predicted no better ({value:.2f}) at ${other.cost_usd:.6f}")
            else:
                reasons.append(
                    f"{other.model} would gain {value - quality:.2f} but cost ${other.cost_usd - chosen.cost_usd:.6f} more"
                )
        return (*reasons, f"score − {weight:g} × cost decides")


def _value(pair: tuple[Candidate, float], weight: float) -> float:
    return pair[1] - weight * pair[0].cost_usd
