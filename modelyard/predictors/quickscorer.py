"""One row through many trees without walking any: QuickScorer (Lucchese et al. 2015), with arrays in place of its loops.

A split that sends the row to the right rules out every leaf to its left. The leaf that a row ends in is the leftmost one that no split of
its tree rules out: one bit a leaf, one comparison a split, whatever the depth.

Notation:
    T  trees, S  splits of the tree that has most, L = S + 1 leaves at most
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from modelyard.predictors.trees import Trees

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]  # what NumPy takes without a copy

MOST_LEAVES = 64


@dataclass(frozen=True, slots=True)
class QuickScorer:
    """The splits of every tree, side by side; absent ones rule out nothing. Trees stand in the order of the outputs that they add to.

    Attributes:
        feature, threshold: shape (S · T,), the first split of every tree, then the second, and so on: NumPy takes from one axis much faster
            than from two.
        left: bit l is set where leaf l hangs on a split's left, shape (S, T).
        value: of every leaf, tree by tree, shape (T · L,).
        before: where in `value` a tree's first leaf is, less one, shape (T,).
        start: the first tree of each output, shape (C,).
        base: what every output starts from, shape (C,).
    """

    feature: IndexArray
    threshold: FloatArray
    left: npt.NDArray[Any]
    value: FloatArray
    before: IndexArray
    start: IndexArray
    base: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the raw scores, shape (C,), of one row of features, shape (F,), none of them NaN."""
        goes_right = (x.take(self.feature) > self.threshold).reshape(self.left.shape)
        # Of one type, since NumPy converts within a product in pieces.
        ruled_out = np.bitwise_or.reduce(self.left * goes_right.astype(self.left.dtype), axis=0)
        # The ones at the low end, and the zero that ends them: the last leaf is never ruled out.
        leaf = np.bitwise_count(ruled_out ^ (ruled_out + 1))
        return self.base + np.add.reduceat(self.value.take(self.before + leaf), self.start)


def quick_scorer(trees: Trees) -> QuickScorer | None:
    """Return the same trees for single rows; None where one has more than 64 leaves."""
    levels = _levels(trees)
    leaves, first, tree = (
        _leaves(trees, levels),
        np.zeros(len(trees.left), np.int64),
        np.zeros(len(trees.left), np.int64),
    )
    tree[trees.roots], start, count = _columns(trees)
    for level in levels:
        splits = level[_is_split(trees, level)]
        left, right = trees.left[splits], trees.right[splits]
        tree[left] = tree[right] = tree[splits]
        first[left], first[right] = first[splits], first[splits] + leaves[left]
    most = int(leaves[trees.roots].max(initial=1))
    if most > MOST_LEAVES:
        return None
    nodes = np.concatenate(levels)
    is_split = _is_split(trees, nodes)
    splits, ends = nodes[is_split], nodes[~is_split]
    splits = splits[np.argsort(tree[splits], kind="stable")]
    of, shape = tree[splits], (most - 1, count)
    slot = np.arange(len(splits)) - np.searchsorted(of, of)  # a split's number within its tree
    feature, threshold, left = np.zeros(shape, np.intp), np.full(shape, np.inf), np.zeros(shape, np.uint64)
    feature[slot, of], threshold[slot, of] = trees.feature[splits], trees.threshold[splits]
    on_left = leaves[trees.left[splits]].astype(np.uint64)
    left[slot, of] = ((np.uint64(1) << on_left) - np.uint64(1)) << first[splits].astype(np.uint64)
    value = np.zeros((count, most))
    value[tree[ends], first[ends]] = trees.value[ends]
    narrow = left.astype(np.min_scalar_type((1 << most) - 1))
    before = np.arange(count, dtype=np.intp) * most - 1
    return QuickScorer(feature.ravel(), threshold.ravel(), narrow, value.ravel(), before, start, trees.base)


def _columns(trees: Trees) -> tuple[IndexArray, IndexArray, int]:
    """Return each tree's column, shape (T,), the first column of each output, shape (C,), and the number of columns.

    An output without trees gets one of a single leaf worth 0, so that each has a sum.
    """
    # `np.setdiff1d` says this in a word, and imports masked arrays: ten milliseconds of cold start.
    absent = np.flatnonzero(np.bincount(trees.output, minlength=len(trees.base)) == 0)
    output = np.concatenate([trees.output, absent])
    order = np.argsort(output, kind="stable")
    column = np.empty(len(output), np.intp)
    column[order] = np.arange(len(output))
    start = np.searchsorted(output[order], np.arange(len(trees.base))).astype(np.intp)
    return column[: len(trees.roots)], start, len(output)


def _levels(trees: Trees) -> list[npt.NDArray[Any]]:
    """Return the nodes by their distance from the root, roots first."""
    levels = [trees.roots]
    for _ in range(trees.depth):
        splits = levels[-1][_is_split(trees, levels[-1])]
        levels.append(np.concatenate([trees.left[splits], trees.right[splits]]))
    return levels


def _leaves(trees: Trees, levels: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Return how many leaves hang on each node, shape (N,)."""
    leaves = np.ones(len(trees.left), dtype=np.int64)
    for level in reversed(levels):
        splits = level[_is_split(trees, level)]
        leaves[splits] = leaves[trees.left[splits]] + leaves[trees.right[splits]]
    return leaves


def _is_split(trees: Trees, nodes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return trees.left[nodes] != nodes
