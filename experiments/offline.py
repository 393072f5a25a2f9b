"""Replays recorded outcomes: what a policy would have chosen, scored and spent, by the same `route` that serving calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.catalog import BaseModel
from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix
from modelyard.routing import RoutingPolicy
from modelyard.tasks import Classifier
from modelyard.types import Message

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Replay:
    """A policy on n prompts: the column it chose, and that model's score and cost in USD, each of shape (n,)."""

    name: str
    chosen: npt.NDArray[np.int64]
    scores: FloatArray
    costs: FloatArray


def replay(
    policy: RoutingPolicy, classifier: Classifier, matrix: OutcomeMatrix, models: Sequence[BaseModel], costs: FloatArray
) -> Replay:
    """Route every prompt of the matrix; the policy sees the prompt's text and nothing else of the row.

    Args:
        policy: The policy.
        classifier: Reads the task for it.
        matrix: Outcomes, complete for `models`, in that order.
        models: The m candidates.
        costs: What each answer cost in USD, shape (n, m).

    Raises:
        InvalidInput: The models are not the matrix's.
    """
    names = tuple(model.name for model in models)
    if names != matrix.models:
        raise InvalidInput(
            f"The candidates {', '.join(names)} are not the outcome matrix's models {', '.join(matrix.models)}."
        )
    column = {name: j for j, name in enumerate(names)}
    chosen = np.zeros(len(matrix), dtype=np.int64)
    for i, prompt in enumerate(matrix.prompts):
        message = Message.of(prompt)
        chosen[i] = column[policy.route(message, classifier.classify(message), models).model]
    rows = np.arange(len(matrix))
    return Replay(policy.name, chosen, matrix.scores[rows, chosen], costs[rows, chosen])
