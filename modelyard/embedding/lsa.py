"""Latent semantic analysis: TF-IDF vectors projected on their leading right singular vectors (Deerwester et al. 1990)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from modelyard.embedding.tfidf import FloatArray, SparseVector, Tfidf


class Lsa:
    """A TF-IDF space and its projection, shape (V, k); embeddings have unit length."""

    def __init__(self, tfidf: Tfidf, projection: FloatArray) -> None:
        self.tfidf = tfidf
        self.projection = np.ascontiguousarray(projection, dtype=np.float32)

    @classmethod
    def fit(cls, tfidf: Tfidf, texts: Sequence[str], *, dimensions: int = 96, seed: int = 0) -> Lsa:
        """Learn the projection; `dimensions` shrinks to what the texts can carry."""
        from scipy.sparse.linalg import svds

        matrix = tfidf.matrix(texts)
        k = min(dimensions, len(texts) - 1, len(tfidf) - 1)
        if k < 1:
            return cls(tfidf, np.zeros((len(tfidf), 1), dtype=np.float32))
        start = np.random.default_rng(seed).standard_normal(min(len(texts), len(tfidf)))
        right = cast("npt.NDArray[np.float64]", svds(matrix.astype(np.float64), k=k, v0=start)[2])[::-1]
        # Singular vectors are unique up to sign: fix it, so that a refit gives the same embedding.
        signs = np.sign(right[np.arange(k), np.abs(right).argmax(axis=1)])
        return cls(tfidf, (right * signs[:, None]).T.astype(np.float32))

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return self.projection.shape[1]

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides an embedding; two spaces may be compared only where it is equal."""
        digest = hashlib.sha256("\n".join(self.tfidf.vocabulary).encode())
        digest.update(self.tfidf.idf.tobytes())
        digest.update(self.projection.tobytes())
        return f"lsa-{self.dimensions}-{digest.hexdigest()[:16]}"

    def project(self, vector: SparseVector) -> FloatArray:
        """Return the embedding of a TF-IDF vector, shape (k,); zero where the text has no known term."""
        dense = vector.values.dot(self.projection.take(vector.indices, axis=0))  # `@`, called in half the time
        norm = math.sqrt(dense.dot(dense))
        return dense / norm if norm else dense

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return embeddings, shape (len(texts), k)."""
        return self.project_many([self.tfidf.vector(text) for text in texts])

    def project_many(self, vectors: Sequence[SparseVector]) -> FloatArray:
        """Return the embeddings of TF-IDF vectors, shape (len(vectors), k)."""
        if not vectors:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        return np.stack([self.project(vector) for vector in vectors])

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object: JSON-ready facts and arrays."""
        facts, arrays = self.tfidf.state()
        return facts, {**arrays, "projection": self.projection}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Lsa:
        """Rebuild from `state`."""
        return cls(Tfidf.from_state(facts, arrays), arrays["projection"])
