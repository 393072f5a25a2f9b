"""Chooses between candidate task classifiers by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from classifiers.tasks import Encodings, OutOfFold, TaskParams, candidates_for, cross_validate, train
from modelyard.tasks import LearnedClassifier


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """The best of several candidates.

    Attributes:
        name: The winner.
        classifier: Trained on everything.
        estimates: Every candidate's out-of-fold predictions, by head.
        losses: Every candidate's mean log loss over the heads.
    """

    name: str
    classifier: LearnedClassifier
    estimates: Mapping[str, Mapping[str, OutOfFold]]
    losses: Mapping[str, float]


def select(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    candidates: Mapping[str, TaskParams] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> TaskSelection:
    """Cross-validate every candidate on the same folds and train the one of least mean log loss over the heads."""
    candidates = candidates_for(len(texts)) if candidates is None else candidates
    shared: Encodings = {}
    estimates = {
        name: cross_validate(texts, labels, params, folds=folds, seed=seed, shared=shared)
        for name, params in candidates.items()
    }
    losses = {name: sum(head.log_loss for head in found.values()) / len(found) for name, found in estimates.items()}
    best = min(losses, key=losses.__getitem__)
    return TaskSelection(best, train(texts, candidates[best], estimates[best], seed=seed), estimates, losses)
