"""Chooses between candidate task classifiers by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classifiers.tasks import CANDIDATES, OutOfFold, TaskParams, cross_validate, train
from modelyard.tasks import LearnedClassifier


def select(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    candidates: Mapping[str, TaskParams] = CANDIDATES,
    *,
    folds: int = 5,
    seed: int = 0,
) -> tuple[str, LearnedClassifier, dict[str, OutOfFold], dict[str, float]]:
    """Cross-validate every candidate on the same folds and train the one of least mean log loss over the heads.

    Returns:
        The winner's name, its classifier trained on everything, its out-of-fold estimates, and every candidate's log loss.
    """
    estimates = {
        name: cross_validate(texts, labels, params, folds=folds, seed=seed) for name, params in candidates.items()
    }
    losses = {name: sum(head.log_loss for head in found.values()) / len(found) for name, found in estimates.items()}
    best = min(losses, key=losses.__getitem__)
    return best, train(texts, candidates[best], estimates[best], seed=seed), estimates[best], losses
