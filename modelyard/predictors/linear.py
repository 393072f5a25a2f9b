"""A linear map over a sparse text vector and a few dense features."""

from __future__ import annotations

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
        return vector.values @ self.sparse.take(vector.indices, axis=0) + dense @ self.dense + self.bias

    def many(self, matrix: csr_matrix, dense: FloatArray) -> FloatArray:
        """Return the scores of many texts, shape (n, C)."""
        return np.asarray(matrix @ self.sparse, dtype=np.float64) + dense @ self.dense + self.bias

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object."""
        return {}, {"sparse": self.sparse, "dense": self.dense, "bias": self.bias}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Linear:
        """Rebuild from `state`."""
        return cls(arrays["sparse"], arrays["dense"], arrays["bias"])
