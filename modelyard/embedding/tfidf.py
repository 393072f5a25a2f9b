"""TF-IDF over word n-grams and character n-grams, one implementation for learning and for serving.

Notation:
    V  number of terms
    x  sparse vector of one text: `indices` (int, increasing) and `values` (float32, unit length)

Weights are (1 + ln tf) × (1 + ln((1 + N) / (1 + df))), rows scaled to unit length (Salton & Buckley 1988, in scikit-learn's
sublinear, smoothed form). It exists beside scikit-learn's because one text takes 0.1 ms here and importing scikit-learn alone takes longer
than the whole cold start may.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.embedding.tokens import tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

MAX_CHARS = 6000  # a longer prompt is read at both ends: its task shows there, and time stays bounded


WORDS_REMEMBERED = 50_000


class SparseVector(NamedTuple):
    """The non-zero entries of one text's vector."""

    indices: IntArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Analyzer:
    """Which terms are counted: word n-grams up to `words`, and n-grams inside words of `chars` (low, high) characters."""

    words: int = 2
    chars: tuple[int, int] | None = None

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text, repeats included."""
        unigrams = tokens(clip(text))
        found = self.word_terms(unigrams)
        if self.chars is not None:
            for word in unigrams:
                found.extend(char_terms(word, *self.chars))
        return found

    def word_terms(self, unigrams: Sequence[str]) -> list[str]:
        """Return the word n-grams of a list of tokens."""
        found = list(unigrams)
        for size in range(2, self.words + 1):
            found.extend(map(" ".join, zip(*(unigrams[start:] for start in range(size)), strict=False)))
        return found


@lru_cache(maxsize=100_000)
def char_terms(word: str, low: int, high: int) -> tuple[str, ...]:
    """Return the character n-grams inside one word, its ends marked; cached, since words repeat."""
    padded = f"\x02{word}\x03"
    return tuple(
        "\x01" + padded[start : start + size]
        for size in range(low, min(high, len(padded)) + 1)
        for start in range(len(padded) - size + 1)
    )


def clip(text: str, limit: int = MAX_CHARS) -> str:
    """Return the text, or its first and last halves where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n{text[-half:]}"


class Tfidf:
    """A fitted vocabulary with inverse document frequencies."""

    def __init__(self, analyzer: Analyzer, vocabulary: Sequence[str], idf: FloatArray) -> None:
        self.analyzer = analyzer
        self.vocabulary = tuple(vocabulary)
        self.idf = idf.astype(np.float32)
        self._index = {term: position for position, term in enumerate(self.vocabulary)}
        self._by_word: dict[str, tuple[int, ...]] = {}  # a word's character n-grams as positions

    @classmethod
    def fit(cls, texts: Sequence[str], *, analyzer: Analyzer, min_df: int = 2, max_terms: int = 30_000) -> Tfidf:
        """Learn the vocabulary: terms in at least `min_df` texts, the `max_terms` most frequent of them."""
        df: Counter[str] = Counter()
        for text in texts:
            df.update(set(analyzer.terms(text)))
        # Ties are broken by the term itself, so that the same texts always give the same vocabulary.
        kept = sorted((term for term, n in df.items() if n >= min_df), key=lambda term: (-df[term], term))[:max_terms]
        kept.sort()
        idf = np.array([1.0 + math.log((1 + len(texts)) / (1 + df[term])) for term in kept], dtype=np.float32)
        return cls(analyzer, kept, idf)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def vector(self, text: str) -> SparseVector:
        """Return the unit-length vector of one text; an empty one where no term is known."""
        counts: dict[int, int] = {}
        unigrams = tokens(clip(text))
        get = self._index.get
        for term in self.analyzer.word_terms(unigrams):
            position = get(term)
            if position is not None:
                counts[position] = counts.get(position, 0) + 1
        if self.analyzer.chars is not None:
            for word, times in Counter(unigrams).items():
                for position in self._char_positions(word):
                    counts[position] = counts.get(position, 0) + times
        indices = np.fromiter(sorted(counts), dtype=np.int64, count=len(counts))
        tf = np.fromiter((counts[i] for i in indices.tolist()), dtype=np.float32, count=len(counts))
        values = (1.0 + np.log(tf)) * self.idf[indices] if counts else tf
        norm = float(np.sqrt(values @ values))
        return SparseVector(indices, (values / norm if norm else values).astype(np.float32))

    def _char_positions(self, word: str) -> tuple[int, ...]:
        known = self._by_word.get(word)
        if known is None:
            low, high = self.analyzer.chars or (1, 0)
            found = (self._index.get(term) for term in char_terms(word, low, high))
            known = tuple(position for position in found if position is not None)
            if len(self._by_word) < WORDS_REMEMBERED:
                self._by_word[word] = known
        return known

    def matrix(self, texts: Sequence[str]) -> csr_matrix:
        """Return the vectors of many texts as rows, shape (len(texts), V)."""
        from scipy.sparse import csr_matrix

        rows = [self.vector(text) for text in texts]
        indptr = np.cumsum([0, *(len(row.indices) for row in rows)])
        indices = np.concatenate([row.indices for row in rows]) if rows else np.zeros(0, dtype=np.int64)
        values = np.concatenate([row.values for row in rows]) if rows else np.zeros(0, dtype=np.float32)
        return csr_matrix((values, indices, indptr), shape=(len(texts), len(self)))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object: JSON-ready facts and arrays."""
        facts = {"words": self.analyzer.words, "chars": self.analyzer.chars, "vocabulary": list(self.vocabulary)}
        return facts, {"idf": self.idf}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Tfidf:
        """Rebuild from `state`."""
        chars = facts["chars"]
        analyzer = Analyzer(facts["words"], None if chars is None else (chars[0], chars[1]))
        return cls(analyzer, facts["vocabulary"], arrays["idf"])
