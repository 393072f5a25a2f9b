"""Chooses, by cross-validation, the recipe of each question of a task classifier, and trains it.

A classifier answers several questions (heads), and no recipe is best at all of them: boosted trees see how complex a prompt is, a linear
model over words sees what it is about. Candidates that share an encoder are therefore chosen head by head.

Where a sentence encoder is at hand, a second look is chosen the same way, for the prompts that words alone leave unsure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from classifiers.encoding import fit_encoder
from classifiers.tasks import (
    CHARS_UP_TO,
    SEMANTIC_CANDIDATES,
    OutOfFold,
    Shared,
    TaskParams,
    candidates_for,
    cross_validate,
    fit_heads,
)
from modelyard.tasks import LearnedClassifier, SecondLook, SentenceEncoder

UNSURE: Final = (
    0.8  # of the first head: below it a second look pays for its milliseconds; above it hardly a label changes
)

Estimates = Mapping[str, Mapping[str, OutOfFold]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a classifier is trained: parameters by head, for words alone and for the second look (empty: there is none)."""

    first: Mapping[str, TaskParams]
    second: Mapping[str, TaskParams]
    below: float = UNSURE


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """The best of several candidates.

    Attributes:
        chosen: Name of the candidate a head, for the first look; `second` names those of the second one.
        classifier: Trained on everything.
        estimates: Every candidate's out-of-fold predictions, by head.
        out_of_fold: Those of the classifier as chosen, second look and all.
        recipe: What was chosen.
    """

    chosen: Mapping[str, str]
    second: Mapping[str, str]
    classifier: LearnedClassifier
    estimates: Estimates
    out_of_fold: Mapping[str, OutOfFold]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The candidates in words, such as `domain logistic then semantic, complexity lightgbm`."""
        return ", ".join(
            f"{head} {name}" + (f" then {self.second[head]}" if head in self.second else "")
            for head, name in self.chosen.items()
        )

    @property
    def losses(self) -> dict[str, float]:
        """Every candidate's mean log loss over the heads."""
        return {
            name: float(np.mean([head.log_loss for head in found.values()])) for name, found in self.estimates.items()
        }


def select(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    candidates: Mapping[str, TaskParams] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    sentences: SentenceEncoder | None = None,
) -> TaskSelection:
    """Cross-validate every candidate on the same folds and train, head by head, the one of least log loss.

    Args:
        texts: n texts.
        labels: n labels a head.
        candidates: Recipes by name; None takes those that suit the number of texts. All heads of a classifier share one encoder.
        folds: Of the cross-validation.
        seed: Of folds and training.
        sentences: Enables the second look; left aside where there are so many texts that words say enough.

    Raises:
        InvalidInput: The labels cannot be learned from.
    """
    candidates = candidates_for(len(texts)) if candidates is None else candidates
    sentences = sentences if len(texts) <= CHARS_UP_TO else None
    embeddings = sentences.embed(texts) if sentences else None
    shared = Shared()

    def judge(some: Mapping[str, TaskParams]) -> dict[str, dict[str, OutOfFold]]:
        return {
            name: cross_validate(texts, labels, params, folds=folds, seed=seed, shared=shared, embeddings=embeddings)
            for name, params in some.items()
        }

    estimates = judge(candidates)
    chosen = _best_with_one_encoder(estimates, candidates, labels)
    encoder = candidates[next(iter(chosen.values()))].encoder
    richer = (
        {name: replace(params, encoder=encoder) for name, params in SEMANTIC_CANDIDATES.items()} if sentences else {}
    )
    known, estimates = {**candidates, **richer}, {**estimates, **judge(richer)}
    second = {head: _best(estimates, head, richer) for head in labels} if richer else {}
    recipe = Recipe(
        {head: known[name] for head, name in chosen.items()}, {head: known[name] for head, name in second.items()}
    )
    first_look = {head: estimates[name][head] for head, name in chosen.items()}
    second_look = {head: estimates[name][head] for head, name in second.items()}
    classifier = _train(texts, recipe, first_look, second_look, seed, sentences)
    pooled = combine(first_look, second_look, recipe.below)
    return TaskSelection(chosen, second, classifier, estimates, pooled, recipe)


def estimate(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    recipe: Recipe,
    *,
    folds: int = 5,
    seed: int = 0,
    sentences: SentenceEncoder | None = None,
) -> dict[str, OutOfFold]:
    """Return out-of-fold predictions of a recipe; without a sentence encoder, of its first look."""
    shared = Shared()
    second = recipe.second if sentences is not None else {}
    embeddings = sentences.embed(texts) if sentences is not None and second else None

    def look(params: Mapping[str, TaskParams]) -> dict[str, OutOfFold]:
        return {
            head: cross_validate(
                texts, labels, chosen, folds=folds, seed=seed, shared=shared, embeddings=embeddings, heads=(head,)
            )[head]
            for head, chosen in params.items()
        }

    return combine(look(recipe.first), look(second), recipe.below)


def combine(first: Mapping[str, OutOfFold], second: Mapping[str, OutOfFold], below: float) -> dict[str, OutOfFold]:
    """Return the out-of-fold predictions of both looks together: the second one's where the first head is unsure."""
    if not second:
        return dict(first)
    asked = first["domain"] if "domain" in first else next(iter(first.values()))
    unsure = asked.probabilities.max(axis=1, keepdims=True) < below
    return {
        head: replace(found, probabilities=np.where(unsure, second[head].probabilities, found.probabilities))
        for head, found in first.items()
    }


def _train(
    texts: Sequence[str],
    recipe: Recipe,
    first: Mapping[str, OutOfFold],
    second: Mapping[str, OutOfFold],
    seed: int,
    sentences: SentenceEncoder | None,
) -> LearnedClassifier:
    encoder = fit_encoder(texts, next(iter(recipe.first.values())).encoder, seed=seed)
    encoded = encoder.many(texts)
    heads = fit_heads(encoded, recipe.first, first, seed=seed)
    if sentences is None or not recipe.second:
        return LearnedClassifier(encoder, heads)
    richer = fit_heads(replace(encoded, semantic=sentences.embed(texts)), recipe.second, second, seed=seed)
    look = SecondLook(richer, recipe.below, sentences.fingerprint)
    return LearnedClassifier(encoder, heads, second=look, sentences=sentences)


def _best_with_one_encoder(
    estimates: Estimates, candidates: Mapping[str, TaskParams], heads: Iterable[str]
) -> dict[str, str]:
    """Return the best candidate a head, among those with the encoder of least mean log loss over the heads."""
    choices = [
        {
            head: _best(estimates, head, [name for name in candidates if candidates[name].encoder == encoder])
            for head in heads
        }
        for encoder in {params.encoder: None for params in candidates.values()}
    ]
    return min(choices, key=lambda chosen: sum(estimates[name][head].log_loss for head, name in chosen.items()))


def _best(estimates: Estimates, head: str, names: Iterable[str]) -> str:
    return min(names, key=lambda name: estimates[name][head].log_loss)
