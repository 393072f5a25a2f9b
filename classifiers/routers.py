"""Learns routers: a first stage fitted out of fold, boosted trees over it, calibration, and a default λ.

Notation as in `modelyard.routing.model`: n prompts, m models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from classifiers.encoding import EncoderParams, fit_encoder
from classifiers.linear import fit_linear
from classifiers.tasks import number_labels
from classifiers.trees import TreeParams, fit_regression, stack_outputs
from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix
from modelyard.predictors import Linear, Platt, Trees
from modelyard.predictors.calibration import logit
from modelyard.routing.model import FirstStage, Memory, RouterModel
from modelyard.tasks.learned import Encoded, Encoder
from modelyard.types import estimate_tokens

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LENGTHS_KNOWN = 0.5  # share of answers of known length, of every model, from which lengths are learned
LENGTH_TREES = TreeParams(rounds=120)
MEMORY = 20_000  # remembered prompts at the most: keeps one look-up below half a millisecond
DOMAIN_PRIOR_WEIGHT = 10.0  # a domain's mean score is shrunk to the overall one by this many imagined prompts


@dataclass(frozen=True, slots=True)
class RouterParams:
    """A candidate router.

    Attributes:
        kind: `stacked` (trees over the first stage) or `average` (the first stage's mean, for few prompts).
        strength: Inverse L2 penalty of the score models; `domain_strength` of the domain model.
        encoder: How text becomes numbers.
    """

    kind: Literal["stacked", "average"] = "stacked"
    strength: float = 1.0
    domain_strength: float = 20.0
    encoder: EncoderParams = field(
        default_factory=lambda: EncoderParams(min_df=3, max_terms=20_000, lsa_dimensions=96, structure_weight=0.1)
    )
    trees: TreeParams = field(default_factory=TreeParams)


CANDIDATES: Mapping[str, RouterParams] = {
    "average": RouterParams(kind="average"),
    "stacked": RouterParams(),
    "stacked-small": RouterParams(trees=TreeParams(rounds=60, leaves=6, depth=3, min_leaf=60)),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The first stage, and what it says of every prompt when fitted without it.

    Attributes:
        features: Shape (n, F); `fold_of` the fold of each prompt, shape (n,).
        lengths: Predicts the logarithm of answer lengths in tokens; None where too few are known.
        output_tokens: Expected answer lengths out of fold, shape (n, m).
    """

    matrix: OutcomeMatrix
    first: FirstStage
    features: FloatArray
    fold_of: IntArray
    lengths: Trees | None
    output_tokens: FloatArray


def prepare(matrix: OutcomeMatrix, params: RouterParams, *, folds: int = 5, seed: int = 0) -> Prepared:
    """Fit the first stage, whole and out of fold; candidates with the same text parameters can share it.

    Raises:
        InvalidInput: Fewer than two models, or too few prompts or answers of a model for the folds.
    """
    _check(matrix, folds)
    first = fit_first_stage(matrix, params, seed=seed)
    features, fold_of = _out_of_fold_features(matrix, first.encoder, params, folds, seed)
    return Prepared(matrix, first, features, fold_of, *_fit_lengths(matrix, features, fold_of, seed))


def train(prepared: Prepared, params: RouterParams, *, seed: int = 0) -> tuple[RouterModel, FloatArray]:
    """Fit the second stage on an outcome matrix with NaN where a model was not asked.

    Returns:
        The router with λ = 0, and its calibrated out-of-fold predictions, shape (n, m): the first stage, the trees and the calibration that
        predict a prompt were fitted on other prompts.
    """
    matrix, fold_of = prepared.matrix, prepared.fold_of
    raw = _out_of_fold_raw(prepared, params, seed)
    calibrated = np.zeros_like(raw)
    for fold in np.unique(fold_of):
        here = fold_of == fold
        calibrated[here] = fit_platt(raw[~here], matrix.scores[~here])(raw[here])
    router = RouterModel(
        models=matrix.models,
        first=prepared.first,
        means=np.nanmean(matrix.scores, axis=0),
        output_tokens=_output_tokens(matrix),
        trees=_fit_trees(prepared.features, matrix.scores, params, seed) if params.kind == "stacked" else None,
        calibration=fit_platt(raw, matrix.scores),
        spread=_spread(calibrated, matrix.scores),
        cost_weight=0.0,
        lengths=prepared.lengths,
    )
    return router, calibrated


def cross_validate(
    matrix: OutcomeMatrix, candidates: Mapping[str, RouterParams] = CANDIDATES, *, folds: int = 5, seed: int = 0
) -> FloatArray:
    """Return predictions, shape (n, m), of routers selected and trained without the prompt's fold, each whole as it would serve."""
    _check(matrix, 2 * folds)
    predictions = np.zeros((len(matrix), len(matrix.models)))
    for rest, held in KFold(folds, shuffle=True, random_state=seed).split(predictions):
        router = select(matrix.take(rest), candidates, folds=folds, seed=seed).router
        predictions[held] = router.predict([matrix.prompts[i] for i in held])
    return predictions


@dataclass(frozen=True, slots=True)
class Selection:
    """The best of several candidates.

    Attributes:
        name: The winner.
        router: Trained on everything.
        predictions: The winner's out-of-fold predictions, shape (n, m).
        output_tokens: Expected answer lengths out of fold, shape (n, m).
        errors: Every candidate's mean squared out-of-fold error of score differences between models.
    """

    name: str
    router: RouterModel
    predictions: FloatArray
    output_tokens: FloatArray
    errors: dict[str, float]


def select(
    matrix: OutcomeMatrix, candidates: Mapping[str, RouterParams] = CANDIDATES, *, folds: int = 5, seed: int = 0
) -> Selection:
    """Train every candidate and keep the one with the least out-of-fold error of score differences between models."""
    shared: dict[RouterParams, Prepared] = {}
    trained: dict[str, tuple[RouterModel, FloatArray]] = {}
    for name, params in candidates.items():
        text = _text_only(params)
        if text not in shared:
            shared[text] = prepare(matrix, params, folds=folds, seed=seed)
        trained[name] = train(shared[text], params, seed=seed)
    errors = {name: _spread(predictions, matrix.scores) ** 2 for name, (_, predictions) in trained.items()}
    best = min(errors, key=errors.__getitem__)
    tokens = shared[_text_only(candidates[best])].output_tokens
    return Selection(best, *trained[best], tokens, errors)


def choose_cost_weight(
    predictions: FloatArray, scores: FloatArray, costs: FloatArray, *, tolerance: float = 0.0
) -> float:
    """Return the largest λ whose choices score within `tolerance` of the best λ's, on out-of-fold predictions.

    All arguments have shape (n, m), costs in USD; prompts with a missing score are left out.
    """
    whole = ~np.isnan(scores).any(axis=1)
    predictions, scores, costs = predictions[whole], scores[whole], costs[whole]
    grid = cost_weights(predictions, costs)
    rows = np.arange(len(scores))
    reached = np.array([scores[rows, (predictions - weight * costs).argmax(axis=1)].mean() for weight in grid])
    return float(grid[np.flatnonzero(reached >= reached.max() - tolerance)[-1]])


def cost_weights(predictions: FloatArray, costs: FloatArray, *, points: int = 64) -> FloatArray:
    """Return 0 and the λ at which choices change, at evenly spaced quantiles, increasing; all shapes (n, m)."""
    crossings: list[FloatArray] = []
    for i in range(predictions.shape[1]):
        for j in range(i):
            gain, price = predictions[:, i] - predictions[:, j], costs[:, i] - costs[:, j]
            usable = np.abs(price) > 1e-15
            ratio = gain[usable] / price[usable]
            crossings.append(ratio[ratio > 0])
    pooled = np.concatenate(crossings) if crossings else np.zeros(0)
    if not len(pooled):
        return np.zeros(1)
    return np.unique(np.concatenate([[0.0], np.quantile(pooled, np.linspace(0, 1, points)), [2.0 * pooled.max()]]))


def fit_first_stage(matrix: OutcomeMatrix, params: RouterParams, *, seed: int = 0) -> FirstStage:
    """Fit everything that reads text."""
    encoder = fit_encoder(matrix.prompts, params.encoder, seed=seed)
    encoded = encoder.many(matrix.prompts)
    domains, priors = _fit_domains(matrix, encoded, params)
    keep = np.arange(len(matrix))
    if len(keep) > MEMORY:
        keep = np.sort(np.random.default_rng(seed).choice(len(keep), MEMORY, replace=False))
    memory = Memory(encoded.lsa[keep], matrix.scores[keep].astype(np.float32))
    return FirstStage(encoder, domains, priors, _fit_scores(matrix, encoded, params), memory)


def fit_platt(raw: FloatArray, scores: FloatArray) -> Platt:
    """Fit the calibration of each model on out-of-fold predictions; scores between 0 and 1 count as fractions of a success."""
    slopes, intercepts = np.ones(raw.shape[1]), np.zeros(raw.shape[1])
    for j in range(raw.shape[1]):
        known = ~np.isnan(scores[:, j])
        fitted = _fractional_logistic(logit(raw[known, j])[:, None], scores[known, j], strength=100.0)
        # A slope below zero would turn the ranking round; that little signal is better called none.
        slopes[j], intercepts[j] = max(0.05, float(fitted[0][0])), float(fitted[1])
    return Platt(slopes, intercepts)


def _check(matrix: OutcomeMatrix, needed: int) -> None:
    if len(matrix.models) < 2:
        raise InvalidInput(
            f"A router needs at least two models to choose from, got only {', '.join(matrix.models) or 'none'}."
        )
    if len(matrix) < 4 * needed:
        raise InvalidInput(f"A router needs at least {4 * needed} prompts to learn from, got {len(matrix)}.")
    # Every model must have answers in every part that is learned from.
    for name, answered in zip(matrix.models, (~np.isnan(matrix.scores)).sum(axis=0).tolist(), strict=True):
        if answered < 2 * needed:
            raise InvalidInput(
                f"The model {name!r} answered {answered} of {len(matrix)} prompts; "
                f"a router needs at least {2 * needed} of each model to learn from."
            )


def _out_of_fold_features(
    matrix: OutcomeMatrix, encoder: Encoder, params: RouterParams, folds: int, seed: int
) -> tuple[FloatArray, IntArray]:
    fold_of = np.zeros(len(matrix), dtype=np.int64)
    rows: dict[int, FloatArray] = {}
    # Scaling and LSA axes differ between refits, so these features must come from one encoder for trees to split on them. It is learned
    # from texts alone: no score leaks through it.
    for fold, (train_rows, held) in enumerate(KFold(folds, shuffle=True, random_state=seed + 1).split(fold_of)):
        fold_of[held] = fold
        stage = fit_first_stage(matrix.take(train_rows), params, seed=seed)
        for i in held:
            first = stage.features(matrix.prompts[i])[: 3 * len(matrix.models)]
            _, embedding, dense = encoder.one(matrix.prompts[i])
            rows[int(i)] = np.concatenate([first, dense, embedding.astype(np.float64)])
    return np.stack([rows[i] for i in range(len(matrix))]), fold_of


def _out_of_fold_raw(prepared: Prepared, params: RouterParams, seed: int) -> FloatArray:
    matrix, features, fold_of = prepared.matrix, prepared.features, prepared.fold_of
    m = len(matrix.models)
    if params.kind == "average":
        return features[:, : 3 * m].reshape(len(features), 3, m).mean(axis=1)
    raw = np.zeros((len(features), m))
    for fold in np.unique(fold_of):
        here = fold_of == fold
        outputs = _fit_trees(features[~here], matrix.scores[~here], params, seed)(features[here])
        raw[here] = np.nanmean(matrix.scores[~here], axis=0) + outputs[:, :1] + outputs[:, 1:]
    return raw


def _fit_trees(features: FloatArray, scores: FloatArray, params: RouterParams, seed: int) -> Any:
    """Fit difficulty and advantages: score = mean of model + difficulty of prompt + advantage (two-way analysis of variance)."""
    centred = scores - np.nanmean(scores, axis=0)
    difficulty = np.nanmean(centred, axis=1)
    parts = [fit_regression(features, difficulty, params.trees, seed=seed)]
    for j in range(scores.shape[1]):
        known = ~np.isnan(scores[:, j])
        parts.append(
            fit_regression(features[known], (centred[:, j] - difficulty)[known], params.trees, seed=seed + j + 1)
        )
    return stack_outputs(parts)


def _fit_domains(matrix: OutcomeMatrix, encoded: Encoded, params: RouterParams) -> tuple[Linear, FloatArray]:
    overall = np.nanmean(matrix.scores, axis=0)
    terms, dense = encoded.terms, encoded.dense.shape[1]
    if len(set(matrix.domains)) < 2:
        return Linear(np.zeros((terms, 1), dtype=np.float32), np.zeros((dense, 1)), np.zeros(1)), overall[None, :]
    classes, labels = number_labels(matrix.domains, "domain")
    domains = fit_linear(encoded.sparse, encoded.dense, labels, len(classes), strength=params.domain_strength)
    known = ~np.isnan(matrix.scores)
    filled = np.where(known, matrix.scores, 0.0)
    members = np.eye(len(classes))[labels]
    priors = (members.T @ filled + DOMAIN_PRIOR_WEIGHT * overall) / (members.T @ known + DOMAIN_PRIOR_WEIGHT)
    return domains, priors


def _fit_scores(matrix: OutcomeMatrix, encoded: Encoded, params: RouterParams) -> Linear:
    from scipy.sparse import csr_matrix, hstack

    x: Any = hstack([encoded.sparse, csr_matrix(encoded.dense)]).tocsr()
    weights, bias = np.zeros((x.shape[1], len(matrix.models))), np.zeros(len(matrix.models))
    for j in range(len(matrix.models)):
        known = np.flatnonzero(~np.isnan(matrix.scores[:, j]))
        weights[:, j], bias[j] = _fractional_logistic(x[known], matrix.scores[known, j], strength=params.strength)
    terms = encoded.terms
    return Linear(weights[:terms].astype(np.float32), weights[terms:], bias)


def _fractional_logistic(x: Any, y: FloatArray, *, strength: float) -> tuple[FloatArray, float]:
    """Fit a logistic regression to targets 0..1: each row counts as y of a success and 1 − y of a failure."""
    from scipy.sparse import issparse, vstack

    mean = float(np.clip(y.mean(), 1e-3, 1 - 1e-3))
    if y.min() == y.max():
        return np.zeros(x.shape[1]), float(np.log(mean / (1 - mean)))
    sure = bool(np.isin(y, (0.0, 1.0)).all())
    both = x if sure else (vstack([x, x]).tocsr() if issparse(x) else np.vstack([x, x]))
    labels = y > 0.5 if sure else np.concatenate([np.ones(len(y)), np.zeros(len(y))])
    sample_weight = None if sure else np.concatenate([y, 1.0 - y])
    model: Any = LogisticRegression(C=strength, solver="liblinear", intercept_scaling=10)
    model.fit(both, labels, sample_weight=sample_weight)
    return model.coef_[0], float(model.intercept_[0])


def _text_only(params: RouterParams) -> RouterParams:
    """Return what two candidates must share to share a first stage."""
    return replace(params, kind="average", trees=TreeParams())


def _fit_lengths(
    matrix: OutcomeMatrix, features: FloatArray, fold_of: IntArray, seed: int
) -> tuple[Trees | None, FloatArray]:
    """Fit ln(tokens) of each model's answers; predictions are scaled so that their mean is right (Duan 1983, smearing)."""
    means = _output_tokens(matrix)
    constant = np.tile(means, (len(matrix), 1))
    tokens = estimate_tokens(1) * matrix.output_chars
    known = np.isfinite(tokens)
    if known.mean(axis=0).min() < LENGTHS_KNOWN:
        return None, constant
    logs = np.log(np.maximum(1.0, np.where(known, tokens, means)))
    expected, whole = np.zeros_like(constant), list[Trees]()
    for j in range(len(matrix.models)):
        for fold in np.unique(fold_of):
            rest = (fold_of != fold) & known[:, j]
            here = fold_of == fold
            expected[here, j] = fit_regression(features[rest], logs[rest, j], LENGTH_TREES, seed=seed)(features[here])[
                :, 0
            ]
        smearing = float(np.log(tokens[known[:, j], j].mean() / np.exp(expected[known[:, j], j]).mean()))
        expected[:, j] += smearing
        fitted = fit_regression(features[known[:, j]], logs[known[:, j], j], LENGTH_TREES, seed=seed)
        whole.append(replace(fitted, base=fitted.base + smearing))
    return stack_outputs(whole), np.exp(expected)


def _output_tokens(matrix: OutcomeMatrix) -> FloatArray:
    from modelyard.catalog import DEFAULT_OUTPUT_TOKENS

    tokens = [column[np.isfinite(column)] / 4.0 for column in matrix.output_chars.T]
    return np.array([float(column.mean()) if len(column) else float(DEFAULT_OUTPUT_TOKENS) for column in tokens])


def _spread(predictions: FloatArray, scores: FloatArray) -> float:
    errors = predictions - scores
    gaps = [errors[:, i] - errors[:, j] for i in range(errors.shape[1]) for j in range(i)]
    pooled = np.concatenate(gaps)
    pooled = pooled[~np.isnan(pooled)]
    return float(np.sqrt((pooled**2).mean())) if len(pooled) else 1.0


def with_cost_weight(router: RouterModel, cost_weight: float) -> RouterModel:
    """Return the router with another default λ."""
    return replace(router, cost_weight=cost_weight)
