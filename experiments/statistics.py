"""Differences of paired means: percentile bootstrap, the t interval as a check, and Holm's correction.

Notation:
    n  pairs, R  resamples, G  groups
    d  challenger − baseline of the same prompt, shape (n,)

The bootstrap resamples prompts, so that whatever ties the two answers to one prompt together stays tied (Efron and Tibshirani 1993, §13.3).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.errors import InvalidInput

FloatArray = npt.NDArray[np.float64]

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
SMALLEST_N: Final = 2
_CELLS: Final = 4_000_000  # resampled values held at a time: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `{"value", "ci95": [low, high]}` or `{"value": null, "reason"}`."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        return {"value": self.value, "ci95": [self.low, self.high]}

    @classmethod
    def undefined(cls, reason: str) -> Estimate:
        """Return an estimate without a value."""
        return cls(None, reason=reason)


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """The difference within one group, for exploration.

    Attributes:
        n: Pairs in the group.
        difference: Mean difference with its bootstrap interval, not corrected for the number of groups.
        p_value: Two-sided t test's p-value, None where it is undefined.
        p_holm: The same after Holm's correction over all groups in which it is defined.
    """

    n: int
    difference: Estimate
    p_value: float | None
    p_holm: float | None


def paired_difference(
    challenger: npt.ArrayLike, baseline: npt.ArrayLike, *, seed: int, resamples: int = RESAMPLES
) -> Estimate:
    """Return the mean of challenger − baseline with its 95 % percentile-bootstrap interval.

    Args:
        challenger: Shape (n,).
        baseline: Shape (n,); entry i is about the same prompt as the challenger's.
        seed: Of the resampling.
        resamples: R; at least 1000.

    Raises:
        InvalidInput: The shapes differ or a value is not finite.
    """
    d = _differences(challenger, baseline)
    if len(d) < SMALLEST_N:
        return Estimate.undefined(f"at least {SMALLEST_N} pairs are needed, but there are {len(d)}")
    means = bootstrap_means(d, seed=seed, resamples=resamples)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(float(d.mean()), float(low), float(high))


def t_difference(challenger: npt.ArrayLike, baseline: npt.ArrayLike) -> Estimate:
    """Return the mean of challenger − baseline with its 95 % t interval."""
    from scipy.stats import t

    d = _differences(challenger, baseline)
    if len(d) < SMALLEST_N:
        return Estimate.undefined(f"at least {SMALLEST_N} pairs are needed, but there are {len(d)}")
    mean, half = float(d.mean()), float(t.ppf((1.0 + LEVEL) / 2.0, len(d) - 1) * _standard_error(d))
    return Estimate(mean, mean - half, mean + half)


def t_test(challenger: npt.ArrayLike, baseline: npt.ArrayLike) -> float | None:
    """Return the paired t test's two-sided p-value; None where there are too few pairs or all differ by the same."""
    from scipy.stats import t

    d = _differences(challenger, baseline)
    if len(d) < SMALLEST_N or np.ptp(d) == 0.0:
        return None
    return float(2.0 * t.sf(abs(float(d.mean())) / _standard_error(d), len(d) - 1))


def by_group(
    challenger: npt.ArrayLike,
    baseline: npt.ArrayLike,
    groups: Sequence[Hashable],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[Any, GroupDifference]:
    """Return the difference within each group, groups in sorted order, with p-values corrected for their number.

    Args:
        challenger: Shape (n,).
        baseline: Shape (n,); entry i is about the same prompt as the challenger's.
        groups: The group of each pair, n entries.
        seed: Of the resampling.
        resamples: R.

    Raises:
        InvalidInput: The lengths differ or a value is not finite.
    """
    a, b = np.asarray(challenger, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    _differences(a, b)
    if len(groups) != len(a):
        raise InvalidInput(f"Each pair needs a group: there are {len(a)} pairs and {len(groups)} groups.")
    rows: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    names = sorted(rows)
    p_values = {name: t_test(a[rows[name]], b[rows[name]]) for name in names}
    corrected = holm({name: p for name, p in p_values.items() if p is not None})
    return {
        name: GroupDifference(
            len(rows[name]),
            paired_difference(a[rows[name]], b[rows[name]], seed=seed, resamples=resamples),
            p_values[name],
            corrected.get(name),
        )
        for name in names
    }


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Return p-values corrected for their number, in the order given (Holm 1979)."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    corrected: dict[Any, float] = {}
    highest = 0.0
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def bootstrap_means(values: FloatArray, *, seed: int, resamples: int = RESAMPLES) -> FloatArray:
    """Return the means of R resamples with replacement, shape (R,), drawn in blocks of bounded memory."""
    if resamples < 1000:
        raise InvalidInput(f"A percentile interval needs at least 1000 resamples, but got {resamples}.")
    n, rng = len(values), np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= min(64, n // 4):  # few distinct values, as 0/1 scores give: draw how often each occurs
        return rng.multinomial(n, counts / n, size=resamples) @ distinct / n
    means = np.empty(resamples)
    rows = max(1, _CELLS // n)
    for start in range(0, resamples, rows):
        stop = min(resamples, start + rows)
        means[start:stop] = values[rng.integers(0, n, size=(stop - start, n))].mean(axis=1)
    return means


def _differences(challenger: npt.ArrayLike, baseline: npt.ArrayLike) -> FloatArray:
    a, b = np.asarray(challenger, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(f"Pairs need two arrays of the same length, but the shapes are {a.shape} and {b.shape}.")
    for name, values in (("challenger", a), ("baseline", b)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InvalidInput(f"Pair {int(bad[0])} of the {name} is {values[bad[0]]}, not a finite number.")
    return a - b


def _standard_error(d: FloatArray) -> float:
    return float(d.std(ddof=1)) / math.sqrt(len(d))
