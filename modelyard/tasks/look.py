"""Heads that are asked together about one text.

Notation:
    C  classes of all heads together, in the order of the heads
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelyard.embedding import SparseVector
from modelyard.predictors import Linear, Trees, softmax_row

if TYPE_CHECKING:
    from modelyard.tasks.learned import Head

FloatArray = npt.NDArray[np.float64]


class Look:
    """What each head says by itself, for one text and at less cost: it goes through all linear models and all trees at once.

    A head that lacks a model has scores of 0 in its place.
    """

    def __init__(self, heads: Mapping[str, Head]) -> None:
        ends = accumulate(len(head.classes) for head in heads.values())
        self._of_head = [
            (name, slice(end - len(head.classes), end)) for (name, head), end in zip(heads.items(), ends, strict=True)
        ]
        self._linear, self._semantic = _linear(heads), _semantic(heads)
        self._trees = _trees(heads)
        weights = [_weights(head) for head in heads.values() for _ in head.classes]
        self._of_linear, self._of_trees = np.array(weights).reshape(-1, 2).T.copy()

    def __call__(
        self,
        vector: SparseVector,
        lsa: npt.NDArray[np.float32],
        dense: FloatArray,
        semantic: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, list[float]]:
        """Return, a head, the class probabilities of one text."""
        parts: list[FloatArray] = []
        if self._linear is not None:
            scores = self._linear.one(vector, dense)
            if self._semantic is not None and semantic is not None:
                scores += semantic @ self._semantic
            parts.append(self._of_linear * scores)
        if self._trees is not None:
            parts.append(self._of_trees * self._trees.one(np.concatenate([lsa, dense], dtype=np.float64)))
        scores = (parts[0] + parts[1] if len(parts) == 2 else parts[0]).tolist()
        return {name: softmax_row(scores[of]) for name, of in self._of_head}


def _weights(head: Head) -> tuple[float, float]:
    """Return what the scores of a head's linear model and of its trees count, its temperature included."""
    mix = head.mix if head.trees is not None else 1.0
    return (
        (mix / head.temperature, (1.0 - mix) / head.temperature)
        if head.linear is not None
        else (0.0, 1.0 / head.temperature)
    )


def _linear(heads: Mapping[str, Head]) -> Linear | None:
    like = next((head.linear for head in heads.values() if head.linear is not None), None)
    if like is None:
        return None
    return Linear.beside([head.linear or like.silent(len(head.classes)) for head in heads.values()])


def _semantic(heads: Mapping[str, Head]) -> npt.NDArray[np.float32] | None:
    like = next((head.semantic for head in heads.values() if head.semantic is not None), None)
    if like is None:
        return None
    absent = {name: np.zeros((len(like), len(head.classes)), like.dtype) for name, head in heads.items()}
    # A head without a linear model has no use for what its sentence embedding would add to it.
    return np.hstack(
        [
            head.semantic if head.semantic is not None and head.linear is not None else absent[name]
            for name, head in heads.items()
        ]
    )


def _trees(heads: Mapping[str, Head]) -> Trees | None:
    if all(head.trees is None for head in heads.values()):
        return None
    return Trees.beside([head.trees or Trees.none(len(head.classes)) for head in heads.values()])
