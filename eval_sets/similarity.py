"""Near-duplicate prompts: exact Jaccard similarity of character 5-grams, of all pairs at once.

Notation: n prompts; A, B sets of 5-grams; J(A, B) = |A ∩ B| / |A ∪ B|. With M the 0/1 matrix of prompts × 5-grams, the intersections
are M Mᵀ, which as a product of sparse matrices costs no more than the grams that prompts share; |A ∪ B| = |A| + |B| − |A ∩ B|.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelyard.errors import InvalidInput

GRAM: Final = 5
NEAR: Final = 0.5  # from here on two prompts count as near-duplicates
_BLOCK: Final = 500  # prompts compared with all others at a time: bounds the memory
_SPACE: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two prompts by their places in the sequence, `first < second`, and their similarity 0..1."""

    first: int
    second: int
    similarity: float


def grams(text: str) -> frozenset[str]:
    """Return the 5-grams of a text in lower case with its white space folded; a shorter text is one gram."""
    folded = _SPACE.sub(" ", text.lower()).strip()
    return frozenset(folded[i : i + GRAM] for i in range(max(1, len(folded) - GRAM + 1)))


def near_duplicates(prompts: Sequence[str], threshold: float = NEAR) -> tuple[Pair, ...]:
    """Return every pair of prompts whose similarity is at least the threshold, in the order of their places.

    Raises:
        InvalidInput: The threshold is not in 0 < t ≤ 1.
    """
    if not 0.0 < threshold <= 1.0:
        raise InvalidInput(f"The threshold of near-duplicates must lie in 0 < t ≤ 1, but got {threshold=}.")
    matrix = _incidence([grams(prompt) for prompt in prompts])
    sizes = np.diff(matrix.indptr)
    transposed = matrix.T.tocsr()
    pairs: list[Pair] = []
    for start in range(0, len(prompts), _BLOCK):
        shared = (matrix[start : start + _BLOCK] @ transposed).tocoo()
        first, second = shared.row + start, shared.col
        similarity = shared.data / (sizes[first] + sizes[second] - shared.data)
        near = (first < second) & (similarity >= threshold)
        found = zip(first[near].tolist(), second[near].tolist(), similarity[near].tolist(), strict=True)
        pairs += [Pair(*each) for each in found]
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def clusters(n: int, pairs: Sequence[Pair]) -> tuple[tuple[int, ...], ...]:
    """Return the places 0..n−1 in groups that near-duplicates connect, each in order, the groups by their first place."""
    root = list(range(n))

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for pair in pairs:
        low, high = sorted((find(pair.first), find(pair.second)))
        root[high] = low
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(n):
        groups[find(place)].append(place)
    return tuple(tuple(group) for group in groups.values())


def _incidence(sets: Sequence[frozenset[str]]) -> Any:
    """Return the 0/1 matrix of sets × members in scipy's CSR form."""
    from scipy.sparse import csr_matrix

    column: dict[str, int] = {}
    columns = [column.setdefault(gram, len(column)) for each in sets for gram in each]
    ends = np.cumsum([0, *map(len, sets)])
    return csr_matrix((np.ones(len(columns), np.int32), np.array(columns, np.int32), ends), (len(sets), len(column)))
