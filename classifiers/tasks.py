"""Learns task classifiers: candidates, cross-fitted calibration, out-of-fold estimates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.model_selection import StratifiedKFold

from classifiers.encoding import EncoderParams, fit_encoder
from classifiers.linear import fit_linear
from classifiers.trees import TreeParams, fit_classes
from modelyard.errors import InvalidInput
from modelyard.predictors import softmax
from modelyard.tasks.learned import Encoded, Head, LearnedClassifier

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TaskParams:
    """A candidate task classifier.

    Attributes:
        kind: `linear` (logistic regression on text, structure and keywords), `trees` (boosted trees on LSA, structure and keywords) or
            `blend` of their scores, with weight `mix` for the linear one.
        strength: Inverse L2 penalty of the linear model.
        semantic_weight: How much sentence embeddings count in the linear model, beside a text vector of unit length; 0 leaves them out.
        encoder: How text becomes numbers.
    """

    kind: Literal["linear", "trees", "blend"] = "linear"
    strength: float = 3.0
    mix: float = 0.7
    semantic_weight: float = 0.0
    encoder: EncoderParams = field(default_factory=EncoderParams)
    trees: TreeParams = field(
        default_factory=lambda: TreeParams(rounds=60, learning_rate=0.08, leaves=8, depth=4, min_leaf=8, l2=1.0)
    )


CANDIDATES: Mapping[str, TaskParams] = {
    "logistic": TaskParams(encoder=EncoderParams(chars=(2, 5))),
    "lightgbm": TaskParams(kind="trees", encoder=EncoderParams(chars=(2, 5))),
    "blend": TaskParams(kind="blend", encoder=EncoderParams(chars=(2, 5))),
}
# They read sentence embeddings, too.
SEMANTIC_CANDIDATES: Mapping[str, TaskParams] = {
    "semantic": replace(CANDIDATES["blend"], semantic_weight=1.0, mix=0.9),
    "semantic-blend": replace(CANDIDATES["blend"], semantic_weight=1.0, mix=0.5),
}

CHARS_UP_TO = 2_000  # prompts; with more of them words have been seen, and character n-grams only cost minutes


def candidates_for(prompts: int) -> Mapping[str, TaskParams]:
    """Return the candidates for that many prompts: with words only where there are many."""
    if prompts <= CHARS_UP_TO:
        return CANDIDATES
    return {name: replace(params, encoder=EncoderParams()) for name, params in CANDIDATES.items()}


@dataclass(frozen=True, slots=True)
class Shared:
    """What candidates that are cross-validated on the same texts, labels, embeddings, folds and seed need not do twice.

    Attributes:
        encodings: By encoder and fold: the rest, and the part held out.
        scores: Scores of the part held out, by encoder, fold, head and the parameters of a linear model or of trees.
    """

    encodings: dict[tuple[EncoderParams, int], tuple[Encoded, Encoded]] = field(default_factory=dict)
    scores: dict[tuple[EncoderParams, int, str, object], FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Calibrated probabilities of every text from a model that did not see it, shape (n, C).

    Attributes:
        labels: Class numbers, shape (n,).
        temperature: Fitted on all folds: the one to serve with. Each fold's probabilities use one fitted on the other folds.
    """

    classes: tuple[str, ...]
    labels: IntArray
    probabilities: FloatArray
    temperature: float

    @property
    def log_loss(self) -> float:
        """Mean negative log probability of the true class."""
        return _log_loss(self.probabilities, self.labels)


def fit_head(
    encoded: Encoded,
    labels: IntArray,
    classes: Sequence[str],
    params: TaskParams,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> Head:
    """Fit one question."""
    parts = [_fit_part(encoded, labels, classes, part, seed) for part in _parts(params)]
    linear = next((head.linear for head in parts if head.linear is not None), None)
    trees = next((head.trees for head in parts if head.trees is not None), None)
    semantic = next((head.semantic for head in parts if head.semantic is not None), None)
    return Head(tuple(classes), linear, trees, params.mix, temperature, semantic)


@dataclass(frozen=True, slots=True)
class _LinearPart:
    strength: float
    semantic_weight: float


def _parts(params: TaskParams) -> tuple[_LinearPart | TreeParams, ...]:
    linear = _LinearPart(params.strength, params.semantic_weight)
    return {"linear": (linear,), "trees": (params.trees,), "blend": (linear, params.trees)}[params.kind]


def _fit_part(
    encoded: Encoded, labels: IntArray, classes: Sequence[str], part: _LinearPart | TreeParams, seed: int
) -> Head:
    """Fit a head of one model alone."""
    if isinstance(part, TreeParams):
        features = np.hstack([encoded.lsa.astype(np.float64), encoded.dense])
        return Head(tuple(classes), None, fit_classes(features, labels, len(classes), part, seed=seed), 0.0, 1.0)
    dense, known = encoded.dense, encoded.dense.shape[1]
    if part.semantic_weight and encoded.semantic is not None:
        dense = np.hstack([dense, part.semantic_weight * encoded.semantic.astype(np.float64)])
    linear = fit_linear(encoded.sparse, dense, labels, len(classes), strength=part.strength)
    if dense.shape[1] == known:
        return Head(tuple(classes), linear, None, 1.0, 1.0)
    semantic = (part.semantic_weight * linear.dense[known:]).astype(np.float32)
    return Head(tuple(classes), replace(linear, dense=linear.dense[:known]), None, 1.0, 1.0, semantic)


def cross_validate(
    texts: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    params: TaskParams,
    *,
    folds: int = 5,
    seed: int = 0,
    shared: Shared | None = None,
    embeddings: npt.NDArray[np.float32] | None = None,
    heads: Collection[str] | None = None,
) -> dict[str, OutOfFold]:
    """Return out-of-fold probabilities, a head, with the temperature of each fold fitted on the other folds.

    Folds are stratified by the first of `labels`, whichever of the `heads` are asked for (None: all).
    Candidates on the same texts, labels, embeddings, folds and seed can pass the same `shared`, to encode and fit nothing twice.
    `embeddings`, shape (n, E), are the texts' sentence embeddings, which candidates with a `semantic_weight` need.

    Raises:
        InvalidInput: Fewer texts than folds, or a head with one class only.
    """
    numbered = {name: number_labels(values, name) for name, values in labels.items()}
    first = next(iter(numbered.values()))[1]
    numbered = {name: found for name, found in numbered.items() if heads is None or name in heads}
    logits = {name: np.zeros((len(texts), len(classes))) for name, (classes, _) in numbered.items()}
    fold_of = np.zeros(len(texts), dtype=np.int64)
    shared = Shared() if shared is None else shared
    for fold, (rest, held) in enumerate(_folds(first, folds, seed)):
        fold_of[held] = fold
        key = (params.encoder, fold)
        if key not in shared.encodings:
            known = [str(texts[i]) for i in rest]
            encoder = fit_encoder(known, params.encoder, seed=seed)
            shared.encodings[key] = encoder.many(known), encoder.many([str(texts[i]) for i in held])
        seen, unseen = shared.encodings[key]
        if embeddings is not None:
            seen, unseen = replace(seen, semantic=embeddings[rest]), replace(unseen, semantic=embeddings[held])
        for name, (classes, y) in numbered.items():
            scores = list[FloatArray]()
            for part in _parts(params):
                if (*key, name, part) not in shared.scores:
                    shared.scores[*key, name, part] = _fit_part(seen, y[rest], classes, part, seed).logits(unseen)
                scores.append(shared.scores[*key, name, part])
            weights = (params.mix, 1.0 - params.mix) if len(scores) == 2 else (1.0,)
            logits[name][held] = sum(weight * found for weight, found in zip(weights, scores, strict=True))
    return {
        name: OutOfFold(classes, y, _calibrate(logits[name], y, fold_of), fit_temperature(logits[name], y))
        for name, (classes, y) in numbered.items()
    }


def train(
    texts: Sequence[str], params: TaskParams, pooled: Mapping[str, OutOfFold], *, seed: int = 0
) -> LearnedClassifier:
    """Fit on everything; labels and temperatures come from the cross-validation of the same texts."""
    encoder = fit_encoder(texts, params.encoder, seed=seed)
    encoded = encoder.many(texts)
    return LearnedClassifier(encoder, fit_heads(encoded, dict.fromkeys(pooled, params), pooled, seed=seed))


def fit_heads(
    encoded: Encoded, params: Mapping[str, TaskParams], pooled: Mapping[str, OutOfFold], *, seed: int = 0
) -> dict[str, Head]:
    """Fit every question with its own recipe on all texts, with the temperature of its cross-validation."""
    return {
        name: fit_head(
            encoded, pooled[name].labels, pooled[name].classes, recipe, seed=seed, temperature=pooled[name].temperature
        )
        for name, recipe in params.items()
    }


def number_labels(values: Sequence[str], name: str) -> tuple[tuple[str, ...], IntArray]:
    """Return the sorted classes and each value's number.

    Raises:
        InvalidInput: There is one class only.
    """
    classes = tuple(sorted(set(values)))
    if len(classes) < 2:
        raise InvalidInput(
            f"A classifier needs at least two classes of {name!r}, but every row says {', '.join(classes) or 'nothing'}."
        )
    index = {label: number for number, label in enumerate(classes)}
    return classes, np.array([index[value] for value in values], dtype=np.int64)


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """Return the temperature of least log loss (Guo et al. 2017)."""
    found = minimize_scalar(
        lambda t: _log_loss(softmax(logits / np.exp(t)), labels), bounds=(-3.0, 3.0), method="bounded"
    )
    return float(np.exp(found.x))


def _calibrate(logits: FloatArray, labels: IntArray, fold_of: IntArray) -> FloatArray:
    calibrated = np.zeros_like(logits)
    for fold in np.unique(fold_of):
        here = fold_of == fold
        calibrated[here] = softmax(logits[here] / fit_temperature(logits[~here], labels[~here]))
    return calibrated


def _folds(labels: IntArray, folds: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    if len(labels) < 2 * folds:
        raise InvalidInput(
            f"Cross-validation with {folds} folds needs at least {2 * folds} labelled prompts, got {len(labels)}."
        )
    # Classes with fewer members than folds share one stratum: they still land in every part at random.
    counts = np.bincount(labels)
    strata = np.where(counts[labels] >= folds, labels, len(counts))
    if (strata == len(counts)).sum() < folds:
        strata = np.where(strata == len(counts), np.argmax(counts), strata)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), strata))


def _log_loss(probabilities: FloatArray, labels: IntArray) -> float:
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)).mean())
