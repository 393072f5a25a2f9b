"""How good a router is at every trade-off between score and cost, with intervals.

Notation:
    n  prompts, m  models, L  points of a cost–score curve, R  bootstrap resamples
    W  resampling weights, shape (R, n), rows summing to one

PGR = (score − cheap) / (dear − cheap); APGR is the area under PGR over the share of calls sent to the dear model; CPT(x) the share at
which PGR first reaches x (Ong et al. 2024, RouteLLM). AIQ is the area under the non-decreasing convex hull of (cost, score), over the cost
range of the single models and divided by it (Hu et al. 2024, RouterBench). Saving(x) is 1 − cost / cost of the best single model, at the
least cost on that hull whose score reaches x of the best single model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 1000
ROUNDING = 1e-9  # a sum of n shares may fall short of the level that it reaches on paper

Estimate = dict[str, Any]


def undefined(reason: str) -> Estimate:
    """Return an estimate that has no value, and why."""
    return {"value": None, "reason": reason}


def resampling_weights(n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """Return bootstrap weights over prompts, shape (resamples + 1, n); the first row is the sample itself."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples) / n
    return np.vstack([np.full(n, 1.0 / n), drawn])


def summarise(values: FloatArray, reason: str) -> Estimate:
    """Return the sample's value with the 2.5 and 97.5 % percentiles of the resamples; values of shape (R + 1,), first the sample's."""
    if not np.isfinite(values[0]):
        return undefined(reason)
    resampled = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(resampled, [2.5, 97.5]) if len(resampled) else (values[0], values[0])
    return {"value": float(values[0]), "ci95": [float(low), float(high)]}


def gain_curve_metrics(
    preference: FloatArray, cheap: FloatArray, dear: FloatArray, weights: FloatArray, *, seed: int = 0
) -> dict[str, Estimate]:
    """Return APGR, CPT(50 %) and CPT(80 %) of sending prompts to the dear model in order of preference.

    Args:
        preference: Shape (n,), higher goes to the dear model first; ties are broken at random.
        cheap: Scores of the cheap model, shape (n,); `dear` likewise.
        weights: W.
        seed: For the ties.
    """
    ties = np.random.default_rng(seed).permutation(len(preference))
    order = np.lexsort((ties, -preference))
    gain = (dear - cheap)[order]
    rows = {
        "apgr": np.full(len(weights), np.nan),
        "cpt50": np.full(len(weights), np.nan),
        "cpt80": np.full(len(weights), np.nan),
    }
    for r, w in enumerate(weights):
        share = np.concatenate([[0.0], np.cumsum(w[order])])
        curve = np.concatenate([[0.0], np.cumsum(w[order] * gain)])
        if curve[-1] <= 1e-12:
            continue
        pgr = curve / curve[-1]
        rows["apgr"][r] = np.trapezoid(pgr, share)
        for name, level in (("cpt50", 0.5), ("cpt80", 0.8)):
            rows[name][r] = share[np.argmax(pgr >= level - ROUNDING)]
    reason = "the dear model scores no better than the cheap one, so there is no gap to recover"
    return {name: summarise(values, reason) for name, values in rows.items()}


@dataclass(frozen=True, slots=True)
class Curves:
    """Cost–score points of every resample: `costs` and `scores` have shape (R + 1, L)."""

    costs: FloatArray
    scores: FloatArray


@dataclass(frozen=True, slots=True)
class Singles:
    """Mean cost and score of each single model in every resample, shape (R + 1, m)."""

    costs: FloatArray
    scores: FloatArray

    @classmethod
    def of(cls, scores: FloatArray, costs: FloatArray, weights: FloatArray) -> Singles:
        """Average outcomes (n, m) with W."""
        return cls(weights @ costs, weights @ scores)


def curve_of_choices(
    choices: npt.NDArray[np.int64], scores: FloatArray, costs: FloatArray, weights: FloatArray
) -> Curves:
    """Return the points of a router that chooses models `choices`, shape (L, n), one row a trade-off; outcomes have shape (n, m)."""
    rows = np.arange(scores.shape[0])
    return Curves(weights @ costs[rows, choices].T, weights @ scores[rows, choices].T)


def curve_of_singles(singles: Singles) -> Curves:
    """Return the single models as points: their hull is the zero router."""
    return Curves(singles.costs, singles.scores)


def quality_metrics(curves: Curves, singles: Singles) -> dict[str, Estimate]:
    """Return AIQ and the savings at 95 and 99 % of the best single model's score."""
    free = singles.costs[0, singles.scores[0].argmax()] <= 0.0
    aiq = per_resample(curves, singles, area_under_hull)
    found: dict[str, Estimate] = {"aiq": summarise(aiq, "all single models cost the same")}
    for name, share in (("saving_95", 0.95), ("saving_99", 0.99)):
        values = per_resample(
            curves, singles, lambda hull, costs, scores, share=share: _saving(hull, costs, scores, share)
        )
        reached = f"no trade-off reaches {share:.0%} of the best single model's score"
        found[name] = summarise(values, "the best single model costs nothing" if free else reached)
    return found


def per_resample(
    curves: Curves, singles: Singles, measure: Callable[[FloatArray, FloatArray, FloatArray], float]
) -> FloatArray:
    """Apply `measure(hull, single costs, single scores)` to every resample."""
    values = [
        measure(upper_hull(c, s), sc, ss)
        for c, s, sc, ss in zip(curves.costs, curves.scores, singles.costs, singles.scores, strict=True)
    ]
    return np.array(values)


def upper_hull(costs: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the corners of the non-decreasing upper convex hull, shape (h, 2), costs increasing (Andrew's monotone chain)."""
    order = np.lexsort((-scores, costs))
    hull: list[tuple[float, float]] = []
    for cost, score in zip(costs[order].tolist(), scores[order].tolist(), strict=True):
        if hull and score <= hull[-1][1]:
            continue
        while len(hull) > 1 and _turns_left(hull[-2], hull[-1], (cost, score)):
            hull.pop()
        if hull and hull[-1][0] == cost:
            hull.pop()
        hull.append((cost, score))
    return np.array(hull)


def area_under_hull(hull: FloatArray, single_costs: FloatArray, single_scores: FloatArray) -> float:
    """Return the mean height of the hull over the cost range of the single models; flat to the right of its last corner.

    To the left of its first corner the hull has no point: the height counts as zero there.
    """
    low, high = float(single_costs.min()), float(single_costs.max())
    if high - low <= 1e-15:
        return float("nan")
    grid = np.unique(np.clip(np.concatenate([[low, high], hull[:, 0]]), low, high))
    heights = np.interp(grid, hull[:, 0], hull[:, 1])
    # A first corner a rounding error above the cheapest single model still counts from there.
    start = max(low, float(hull[0, 0])) if hull[0, 0] > low * (1 + 1e-9) else low
    inside = grid >= start
    return float(np.trapezoid(heights[inside], grid[inside]) / (high - low))


def _saving(hull: FloatArray, single_costs: FloatArray, single_scores: FloatArray, share: float) -> float:
    best = int(single_scores.argmax())
    target = share * single_scores[best]
    if single_costs[best] <= 0.0 or hull[-1, 1] < target:
        return float("nan")
    cost = float(
        np.interp(target, hull[:, 1], hull[:, 0])
    )  # at the first corner's cost where that already reaches the target
    return 1.0 - cost / float(single_costs[best])


def _turns_left(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0.0
