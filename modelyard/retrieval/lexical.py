"""BM25 (Robertson & Zaragoza 2009, as Lucene computes it) over small texts.

bm25s computes every weight once, when the index is built; a search adds up a few columns of the finished matrix, so that neither
bm25s nor SciPy is imported to serve.

Notation:
    n  number of texts
    V  number of terms
    columns of the (n, V) weight matrix: `weights[starts[t]:starts[t+1]]` for the texts `texts[starts[t]:starts[t+1]]`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.embedding import tokens
from modelyard.embedding.tfidf import clip

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

# Words that stand in nearly every question and every text, and so only cost time and blur the score.
MOST_TERMS = 8
_COMMON = """
    a about am an and any are as at be been being but by can could did do does doing for from get got had has have he her here hey
    hi his how i if im in into is isn it its ll just me my need no nor not of on or our please re s she should so some t than
    thanks that the their them then there these they this those to too us use ve very want was way we were what when where which
    while who why will with would you your
"""
STOPWORDS = frozenset(_COMMON.split())


def terms(text: str) -> list[str]:
    """Return the terms of a text that count, in order, repeats included: no signs, no stop words, plurals without their s."""
    return [_stem(token) for token in tokens(clip(text)) if token not in STOPWORDS and token.isalnum()]


def _stem(token: str) -> str:
    """Take an English plural's s off (the S-stemmer of Harman 1991)."""
    if len(token) > 3 and token.endswith("s") and not token.endswith(("ss", "us", "is")):
        return f"{token[:-3]}y" if token.endswith("ies") and len(token) > 4 else token[:-1]
    return token


class Lexical:
    """The BM25 weight of every term in every text."""

    def __init__(
        self, vocabulary: Sequence[str], weights: FloatArray, texts: IntArray, starts: IntArray, n: int
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.weights, self.texts, self.starts, self.n = weights, texts, starts, n
        self._peaks = np.maximum.reduceat(weights, starts[:-1]) if len(weights) else weights
        self._columns = {term: number for number, term in enumerate(self.vocabulary)}

    @classmethod
    def build(cls, texts: Sequence[Sequence[str]], *, k1: float = 1.2, b: float = 0.75) -> Lexical:
        """Compute the weights of texts given as terms.

        Args:
            texts: Terms of each text, in order.
            k1: How much a repeated term adds; near 0 only its presence counts.
            b: How much a long text is held back, 0..1.
        """
        from bm25s import BM25

        vocabulary = sorted({term for text in texts for term in text})
        if not vocabulary:
            empty = np.zeros(0, dtype=np.int32)
            return cls((), empty.astype(np.float32), empty, np.zeros(1, dtype=np.int32), len(texts))
        numbers = {term: number for number, term in enumerate(vocabulary)}
        scores: dict[str, Any] = BM25(method="lucene", k1=k1, b=b).build_index_from_ids(
            list(range(len(vocabulary))), [[numbers[term] for term in text] for text in texts], show_progress=False
        )
        return cls(
            vocabulary,
            scores["data"].astype(np.float32),
            scores["indices"].astype(np.int32),
            scores["indptr"].astype(np.int32),
            len(texts),
        )

    def scores(self, query: Iterable[str]) -> FloatArray:
        """Return the score of every text, shape (n,); each distinct term of the query counts once."""
        total = np.zeros(self.n, dtype=np.float32)
        for term in dict.fromkeys(query):
            column = self._columns.get(term)
            if column is not None:
                part = slice(self.starts[column], self.starts[column + 1])
                total[self.texts[part]] += self.weights[part]
        return total

    def worth(self, query: Iterable[str]) -> dict[str, float]:
        """Return the greatest weight that each distinct term has in any text; an unknown term is worth as much as the rarest."""
        unknown = float(self._peaks.max()) if len(self._peaks) else 0.0
        columns = ((term, self._columns.get(term)) for term in dict.fromkeys(query))
        return {term: unknown if column is None else float(self._peaks[column]) for term, column in columns}

    def bound(self, query: Iterable[str]) -> float:
        """Return the score of a text that holds what counts in the query, each term at its best.

        Of a long query the heaviest `MOST_TERMS` terms are what counts: no passage can hold every word of a page.
        """
        return sum(sorted(self.worth(query).values(), reverse=True)[:MOST_TERMS])

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return what rebuilds this object: JSON-ready facts and arrays."""
        facts = {"vocabulary": list(self.vocabulary), "n": self.n}
        return facts, {"weights": self.weights, "texts": self.texts, "starts": self.starts}

    @classmethod
    def from_state(cls, facts: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Lexical:
        """Rebuild from `state`."""
        return cls(facts["vocabulary"], arrays["weights"], arrays["texts"], arrays["starts"], facts["n"])
