"""A linear map over a sparse text vector and a few dense features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelyard.embedding import SparseVector

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """Scores x_sparse · W + x_dense · U + b.

    Attributes:
        sparse: W, shape (V, C).
        dense: U, shape (D, C).
        bias: b, shape (C,).
    """

    sparse: npt.NDArray[np.float32]
    dense: FloatArray
    bias: FloatArray

    def one(self, vector: SparseVector, dense: FloatArray) -> FloatArray:
        """Return the scores of one text, shape (C,)."""
        # `dot` is `@`, called in half the time.
        scores = dense.dot(self.dense)
        scores += vector.values.dot(self.sparse.take(vector.indices, axis=0))
        scores += self.bias
        return scores

    def many(self, matrix: csr_matrix, dense: FloatArray) -> FloatArray:
        """Return the scores of many texts, shape (n, C)."""
        return np.asarray(matrix @ self.sparse, dtype=np.float64) + dense @ self.dense + self.bias

    @classmethod
    def beside(cls, parts: Sequence[Linear]) -> Linear:
        """Put maps over the same features into one: its scores are those of the first, then of the second, and so on."""
        return cls(
            np.hstack([part.sparse for part in parts]),
            np.hstack([part.dense for part in parts]),
            np.concatenate([part.bias for part in parts]),
        )

    def silent(self, outputs: int) -> Linear:
        """Return a map over the same features whose scores, `outputs` of them, are always 0."""
        shapes = (len(self.sparse), outputs), (len(self.dense), outputs), outputs
        return Linear(np.zeros(shapes[0], self.sparse.dtype), np.zeros(shapes[1]), np.zeros(shapes[2]))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object."""
        return {}, {"sparse": self.sparse, "dense": self.dense, "bias": self.bias}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Linear:
        """Rebuild from `state`."""
        return cls(arrays["sparse"], arrays["dense"], arrays["bias"])
