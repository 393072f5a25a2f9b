"""Boosted regression trees as flat arrays.

Notation:
    T  trees, N  nodes of all trees together, C  outputs, F  features
    A row goes left where x[feature] ≤ threshold. A leaf points to itself, so that all trees take the same number of steps.

Importing LightGBM costs about a second of cold start and more memory than the trees themselves; this runtime gives the same numbers
(`tests/unit/predictors` holds them equal).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.predictors.quickscorer import QuickScorer, quick_scorer

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

_BLOCK = 512  # rows at a time: keeps the (rows × T) work arrays in cache


@dataclass(frozen=True)
class Trees:
    """An ensemble with C outputs.

    Attributes:
        feature, left, right: shape (N,).
        threshold, value: shape (N,); `value` counts at leaves only.
        roots: index of each tree's root, shape (T,).
        output: which output each tree adds to, shape (T,).
        base: what every output starts from, shape (C,).
        depth: steps from root to the deepest leaf.
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray
    roots: IntArray
    output: IntArray
    base: FloatArray
    depth: int

    def one(self, x: FloatArray) -> FloatArray:
        """Return the raw scores, shape (C,), of one row of features, shape (F,), none of them NaN."""
        return self(x[None, :])[0] if self._quick is None else self._quick(x)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return raw scores, shape (n, C), of feature rows, shape (n, F)."""
        spread = np.zeros((len(self.roots), len(self.base)))
        spread[np.arange(len(self.roots)), self.output] = 1.0
        blocks = [self._leaves(x[start : start + _BLOCK]) @ spread for start in range(0, len(x), _BLOCK)]
        return self.base + (np.concatenate(blocks) if blocks else np.zeros((0, len(self.base))))

    def _leaves(self, x: FloatArray) -> FloatArray:
        node = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            goes_left = x[rows, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        return self.value[node]

    @cached_property
    def _quick(self) -> QuickScorer | None:
        return quick_scorer(self)

    @classmethod
    def beside(cls, parts: Sequence[Trees]) -> Trees:
        """Put ensembles over the same features into one: its outputs are those of the first, then of the second, and so on."""
        nodes = np.cumsum([0, *(len(part.feature) for part in parts)], dtype=np.int32)
        outputs = np.cumsum([0, *(len(part.base) for part in parts)], dtype=np.int32)

        def column(name: str, shifts: Iterable[int] = repeat(0)) -> npt.NDArray[Any]:
            return np.concatenate([getattr(part, name) + shift for part, shift in zip(parts, shifts, strict=False)])

        return cls(
            feature=column("feature"),
            threshold=column("threshold"),
            left=column("left", nodes),
            right=column("right", nodes),
            value=column("value"),
            roots=column("roots", nodes),
            output=column("output", outputs),
            base=column("base"),
            depth=max(part.depth for part in parts),
        )

    @classmethod
    def none(cls, outputs: int) -> Trees:
        """Return an ensemble without trees, whose scores, `outputs` of them, are always 0."""
        numbers, values = np.zeros(0, np.int32), np.zeros(0)
        return cls(
            numbers, values, numbers, numbers, values, roots=numbers, output=numbers, base=np.zeros(outputs), depth=0
        )

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object."""
        names = ("feature", "threshold", "left", "right", "value", "roots", "output", "base")
        return {"depth": self.depth}, {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Trees:
        """Rebuild from `state`."""
        return cls(**arrays, depth=facts["depth"])
