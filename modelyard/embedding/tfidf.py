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
from itertools import chain, compress, count, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.embedding.remembered import Remembered
from modelyard.embedding.tokens import MAX_CHARS, Reading, clip, read

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["MAX_CHARS", "Analyzer", "SparseVector", "Tfidf", "clip"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# 1 + ln tf of every tf that a clipped text can have; nothing asks for that of 0.
_DAMPED = np.float32(1.0) + np.log(np.maximum(np.arange(MAX_CHARS + 4, dtype=np.float32), np.float32(1.0)))

_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)

# Below and above every position: each run of equal ones then has an edge on both sides.
_ENDS = np.array([-1, np.iinfo(np.int32).max], dtype=np.int32).tobytes()


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
        reading = read(text)
        found = [*reading.tokens, *self.phrases(reading)]
        if self.chars is not None:
            for word in reading.tokens:
                found.extend(_remembered_char_terms(word, *self.chars))
        return found

    def phrases(self, reading: Reading) -> Sequence[str]:
        """Return the word n-grams of two and more words."""
        if self.words <= 2:
            return reading.bigrams if self.words == 2 else ()
        longer = list(reading.bigrams)
        for size in range(3, self.words + 1):
            longer.extend(map(" ".join, zip(*(reading.tokens[start:] for start in range(size)), strict=False)))
        return longer


def char_terms(word: str, low: int, high: int) -> tuple[str, ...]:
    """Return the character n-grams inside one word, its ends marked."""
    padded = f"\x02{word}\x03"
    return tuple(
        "\x01" + padded[start : start + size]
        for size in range(low, min(high, len(padded)) + 1)
        for start in range(len(padded) - size + 1)
    )


_remembered_char_terms = lru_cache(maxsize=100_000)(char_terms)  # learning meets the same words again and again


class Tfidf:
    """A fitted vocabulary with inverse document frequencies."""

    def __init__(self, analyzer: Analyzer, vocabulary: Sequence[str], idf: FloatArray) -> None:
        self.analyzer = analyzer
        self.vocabulary = tuple(vocabulary)
        self.idf = idf.astype(np.float32)
        # A term's position as four bytes: what a text's terms have found is joined, and is an array. Phrases are apart, since all of a
        # text's are looked up, and nearly all in vain: in a small dictionary that takes half the time.
        positions: list[bytes] = np.arange(len(self.vocabulary), dtype=np.int32).view("V4").tolist()
        self._terms = dict(zip(self.vocabulary, positions, strict=True))
        self._phrases = {term: self._terms.pop(term) for term in self.vocabulary if " " in term}
        self._of_word = Remembered(self._find_word)
        self._of_window = Remembered(self._find_window)
        low, high = analyzer.chars or (1, 0)
        # How many characters a window has, and the windows that longer n-grams of the vocabulary start with.
        self._low, self._high, self._window = low, high, min(low + 1, high)
        self._longer = frozenset(
            term[1 : self._window + 1] for term in self._terms if len(term) > self._window + 1 and term[0] == "\x01"
        )

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
        reading = read(text)
        if self.analyzer.chars is None:
            words = map(self._terms.get, reading.tokens, repeat(b""))
        else:
            words = map(self._of_word.__getitem__, reading.tokens)
        phrases = map(self._phrases.get, self.analyzer.phrases(reading), repeat(b""))
        indices, tf = _tally(bytearray().join(chain((_ENDS,), words, phrases)))
        values = _DAMPED.take(tf) * self.idf.take(indices)
        norm = math.sqrt(values.dot(values))
        return SparseVector(indices, values / norm if norm else values)

    def _find_word(self, word: str) -> bytes:
        """Return the positions of a word and of its character n-grams.

        A word that is new, such as a number, has dozens of n-grams. Its windows of a few characters are not new, and say which short
        n-grams start there and whether a longer one may.
        """
        padded, size = f"\x02{word}\x03", self._window
        windows = [padded[start : start + size] for start in range(len(padded) - self._low + 1)]
        found = [self._terms.get(word, b""), *map(self._of_window.__getitem__, windows)]
        found += [
            self._terms.get("\x01" + padded[start : start + longer], b"")
            for start in compress(count(), map(self._longer.__contains__, windows))
            for longer in range(size + 1, min(self._high, len(padded) - start) + 1)
        ]
        return b"".join(found)

    def _find_window(self, window: str) -> bytes:
        """Return the positions of the character n-grams that a window starts with, its own included."""
        return b"".join(self._terms.get("\x01" + window[:end], b"") for end in range(self._low, len(window) + 1))

    def matrix(self, texts: Sequence[str]) -> csr_matrix:
        """Return the vectors of many texts as rows, shape (len(texts), V)."""
        return self.stack([self.vector(text) for text in texts])

    def stack(self, rows: Sequence[SparseVector]) -> csr_matrix:
        """Return vectors as the rows of a matrix, shape (len(rows), V)."""
        from scipy.sparse import csr_matrix

        indptr = np.cumsum([0, *(len(row.indices) for row in rows)])
        indices = np.concatenate([row.indices for row in rows]) if rows else np.zeros(0, dtype=np.int64)
        values = np.concatenate([row.values for row in rows]) if rows else np.zeros(0, dtype=np.float32)
        return csr_matrix((values, indices, indptr), shape=(len(rows), len(self)))

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


def _tally(positions: bytearray) -> tuple[IntArray, IntArray]:
    """Return the distinct positions, increasing, and how often each occurs: `np.unique`, which takes many times as long for so few.

    Args:
        positions: Of four bytes each, `_ENDS` among them.
    """
    ordered = np.frombuffer(positions, _INT32)
    ordered.sort()
    edges = (ordered[1:] != ordered[:-1]).nonzero()[0]
    lasts = edges[1:]  # of each run of equal positions; the first edge is that of the lower end
    return ordered.take(lasts).astype(_INT64), lasts - edges[:-1]
