"""The learned router's prediction: the score each base model would get for a prompt.

Notation:
    m  models, n  remembered prompts, V  text terms, k  LSA length, D  domains seen in training

First stage, each of shape (m,):
    prior       Σ_d P(d | text) · mean score of each model in domain d     (predicted-domain prior)
    linear      σ(text · W + features · U + b), a logistic regression per model
    neighbours  kernel-weighted mean score of the `NEIGHBOURS` nearest remembered prompts in LSA space
Second stage: boosted trees over the first stage, the structure of the text and its LSA embedding predict the difficulty of the prompt
(shared by all models) and each model's advantage over it; calibrated per model. Without trees the first stage's mean serves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.errors import CorruptModel
from modelyard.predictors import Artifact, Linear, Platt, State, Trees, join, part, sigmoid_row, softmax_row
from modelyard.tasks.learned import Encoder

FloatArray = npt.NDArray[np.float64]

KIND = "router"
NEIGHBOURS = 40
SHARPNESS = 8.0  # a neighbour's weight is exp(SHARPNESS · cosine)


@dataclass(frozen=True, slots=True)
class Memory:
    """Remembered prompts: unit-length embeddings (n, k), scores (n, m) with NaN where a model was not asked."""

    embeddings: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    _known: FloatArray = field(init=False, repr=False, compare=False)  # (n, 2m): scores or 0, and 1 or 0

    def __post_init__(self) -> None:
        """Put beside the scores which of them are known."""
        known = np.hstack([np.nan_to_num(self.scores), ~np.isnan(self.scores)]).astype(np.float64)
        object.__setattr__(self, "_known", known)

    def recall(self, embedding: npt.NDArray[np.float32], fallback: Sequence[float]) -> list[float]:
        """Return the neighbours' weighted mean score of each model, and `fallback` where none of them is known."""
        similarity = self.embeddings.dot(embedding)
        farther = max(0, len(similarity) - NEIGHBOURS)
        nearest = similarity.argpartition(farther)[farther:]
        weights = np.exp(SHARPNESS * similarity.take(nearest).astype(np.float64))
        sums, m = weights.dot(self._known.take(nearest, axis=0)).tolist(), len(fallback)
        return [
            score / weight if weight > 0 else other
            for score, weight, other in zip(sums[:m], sums[m:], fallback, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Everything of the router that reads text."""

    encoder: Encoder
    domains: Linear
    priors: FloatArray  # (D, m)
    linear: Linear
    memory: Memory
    _linears: Linear = field(init=False, repr=False, compare=False)  # `domains`, then `linear`

    def __post_init__(self) -> None:
        """Put the two linear models side by side."""
        object.__setattr__(self, "_linears", Linear.beside([self.domains, self.linear]))

    def features(self, text: str) -> FloatArray:
        """Return prior, linear, neighbours, structure with keywords, and embedding, shape (3m + F + k,)."""
        vector, embedding, dense = self.encoder.one(text)
        scores, domains = self._linears.one(vector, dense).tolist(), len(self.priors)
        prior = np.array(softmax_row(scores[:domains])).dot(self.priors).tolist()
        linear = sigmoid_row(scores[domains:])
        neighbours = self.memory.recall(embedding, prior)
        return np.concatenate([np.array(prior + linear + neighbours), dense, embedding], dtype=np.float64)


class Forecast(NamedTuple):
    """Expected scores, 0..1, and answer lengths in tokens, each of shape (n, m)."""

    scores: FloatArray
    output_tokens: FloatArray


class Outlook(NamedTuple):
    """The `Forecast` of a single text, of length m each."""

    scores: list[float]
    output_tokens: list[float]


@dataclass(frozen=True)
class RouterModel:
    """A learned router.

    Attributes:
        models: The m base models it knows, in the order of every array.
        means: Mean score of each model in training, shape (m,).
        output_tokens: Mean length of each model's answers in training, shape (m,).
        lengths: m outputs, the logarithm of an answer's length in tokens for a prompt; None where training did not know lengths.
        trees: m + 1 outputs: difficulty, then each model's advantage; None for a router without a second stage.
        calibration: Applied last.
        spread: Standard deviation of the out-of-fold error of a difference between two models' scores.
        cost_weight: Default λ, in score per USD.
    """

    models: tuple[str, ...]
    first: FirstStage
    means: FloatArray
    output_tokens: FloatArray
    trees: Trees | None
    calibration: Platt
    spread: float
    cost_weight: float
    lengths: Trees | None = None

    def forecast_one(self, text: str) -> Outlook:
        """Return what each model is expected to score and to write for one text."""
        m = len(self.models)
        features = self.first.features(text)
        outputs: list[float] = [] if self._grown is None else self._grown.one(features).tolist()
        if self.trees is None:
            first = features[: 3 * m].tolist()
            raw = [sum(first[model::m]) / 3 for model in range(m)]
        else:
            difficulty, *advantages = outputs[: 1 + m]
            raw = [mean + difficulty + more for mean, more in zip(self.means.tolist(), advantages, strict=True)]
        lengths = self.output_tokens.tolist() if self.lengths is None else [math.exp(x) for x in outputs[-m:]]
        return Outlook(self.calibration.row(raw), lengths)

    def forecast(self, texts: Sequence[str]) -> Forecast:
        """Return what each model is expected to score and to write for each text."""
        if not texts:
            return Forecast(np.zeros((0, len(self.models))), np.zeros((0, len(self.models))))
        features = np.stack([self.first.features(text) for text in texts])
        return Forecast(self.calibration(self.raw(features)), self.expected_tokens(features))

    @cached_property
    def _grown(self) -> Trees | None:
        """All trees together: a single text goes through them at once."""
        grown = [trees for trees in (self.trees, self.lengths) if trees is not None]
        return Trees.beside(grown) if grown else None

    def expected_tokens(self, features: FloatArray) -> FloatArray:
        """Return the expected length of each model's answer in tokens, shape (n, m), of first-stage features."""
        if self.lengths is None:
            return np.tile(self.output_tokens, (len(features), 1))
        return np.exp(self.lengths(features))

    def predict(self, texts: Sequence[str]) -> FloatArray:
        """Return the predicted score of each model for each text, shape (n, m)."""
        return self.forecast(texts).scores

    def raw(self, features: FloatArray) -> FloatArray:
        """Return predictions before calibration, shape (n, m), of first-stage features."""
        m = len(self.models)
        if self.trees is None:
            return features[:, : 3 * m].reshape(len(features), 3, m).mean(axis=1)
        outputs = self.trees(features)
        return self.means + outputs[:, :1] + outputs[:, 1:]

    def state(self) -> State:
        """Return what rebuilds this object."""
        first = self.first
        facts = {"models": list(self.models), "spread": self.spread, "cost_weight": self.cost_weight}
        arrays = {"means": self.means, "output_tokens": self.output_tokens}
        memory = {"embeddings": first.memory.embeddings, "scores": first.memory.scores, "priors": first.priors}
        states: dict[str, State] = {
            "router": (facts, arrays),
            "encoder": first.encoder.state(),
            "domains": first.domains.state(),
            "linear": first.linear.state(),
            "memory": ({}, memory),
            "calibration": self.calibration.state(),
        }
        if self.trees is not None:
            states["trees"] = self.trees.state()
        if self.lengths is not None:
            states["lengths"] = self.lengths.state()
        return join(states)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> RouterModel:
        """Rebuild from a verified artifact.

        Raises:
            CorruptModel: The artifact's content does not have the layout of this release.
        """
        state = (artifact.facts, artifact.arrays)
        try:
            facts, arrays = part(state, "router")
            memory = part(state, "memory")[1]
            first = FirstStage(
                Encoder.from_state(part(state, "encoder")),
                Linear.from_state(*part(state, "domains")),
                memory["priors"],
                Linear.from_state(*part(state, "linear")),
                Memory(memory["embeddings"], memory["scores"]),
            )
            trees = Trees.from_state(*part(state, "trees")) if "trees" in artifact.facts else None
            lengths = Trees.from_state(*part(state, "lengths")) if "lengths" in artifact.facts else None
            return cls(
                tuple(facts["models"]),
                first,
                arrays["means"],
                arrays["output_tokens"],
                trees,
                Platt.from_state(*part(state, "calibration")),
                facts["spread"],
                facts["cost_weight"],
                lengths,
            )
        except (KeyError, TypeError, IndexError) as error:
            raise CorruptModel(f"The saved router lacks a part: {error}.") from None
