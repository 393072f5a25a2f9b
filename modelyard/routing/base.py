"""The seam that every routing policy stands behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from modelyard.catalog import BaseModel
from modelyard.errors import UnknownModel
from modelyard.types import Candidate, Message, Route, Task


class RoutingPolicy(Protocol):
    """Maps a message, its task and the candidates to a `Route`."""

    @property
    def name(self) -> str:
        """The policy's kind, such as `learned`."""
        ...

    @property
    def version(self) -> str:
        """Names this policy in every answer it had a part in."""
        ...

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        """Choose one of the candidates.

        What is read of the message, its needs and the other arguments decide, and nothing else: decisions are kept by those.

        Args:
            message: The conversation; see `modelyard.tasks.reading` for what of it is read.
            task: What the classifier read; its tokens are the whole prompt's.
            candidates: Base models to choose from, at least one.
            cost_weight: λ, in score per USD, for policies that weigh cost; None takes the policy's own.

        Raises:
            UnknownModel: The policy cannot choose among these candidates.
        """
        ...


def price_candidates(task: Task, candidates: Sequence[BaseModel]) -> tuple[Candidate, ...]:
    """Return the candidates with their expected cost and no quality prediction."""
    if not candidates:
        raise UnknownModel("A policy needs at least one candidate model, got none.")
    return tuple(Candidate(model.name, None, model.expected_cost(task.tokens)) for model in candidates)
