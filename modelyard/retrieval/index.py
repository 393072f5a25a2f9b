"""The retrieval index: passages of a knowledge base, found by their words (BM25) and by their subject (LSA).

Notation:
    n  number of passages
    k  dimensions of the LSA space
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.embedding import Lsa, Tfidf
from modelyard.embedding.tfidf import Analyzer
from modelyard.errors import CorruptModel
from modelyard.predictors import join, part, read_artifact, write_artifact
from modelyard.retrieval import chunks as cutting
from modelyard.retrieval.chunks import Chunk, chunks
from modelyard.retrieval.documents import Document, check_documents
from modelyard.retrieval.lexical import Lexical, terms
from modelyard.types import Passage

KIND = "index"
LAYOUT = 1  # part of the version: an index built by other rules is another index

# Share of the lexical score in the fused one. On four collections (our documents, product documentation, abstracts, code) 0.6 is best or
# within 1.5 points of nDCG@10 of the best weight, while either score alone loses 2 to 20; `pipelines evaluate-retrieval` measures it.
LEXICAL_WEIGHT = 0.6
DIMENSIONS = 128
# Character n-grams inside words let a misspelt or inflected word still find its subject.
ANALYZER = Analyzer(words=1, chars=(3, 4))
MAX_TERMS = 20_000

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Sentence(NamedTuple):
    """A sentence of the knowledge base that matched: `share` is how much of the query's weight it holds, 0..1."""

    passage: Passage
    share: float


class Index:
    """A built index; it does not change."""

    def __init__(
        self,
        documents: Sequence[Document],
        spans: IntArray,
        sentence_spans: IntArray,
        lexical: Lexical,
        sentences: Lexical,
        lsa: Lsa,
        vectors: FloatArray,
    ) -> None:
        """Take the parts; use `build` or `load`.

        Args:
            documents: The knowledge base.
            spans: Document number, start and end of every passage, shape (n, 3).
            sentence_spans: The same of every sentence.
            lexical: BM25 over passages.
            sentences: BM25 over sentences.
            lsa: The embedding.
            vectors: Embeddings of the passages, shape (n, k), unit rows.

        What it knows of itself is its `version`, and how many bytes its `longest` passage has with its title.
        """
        self.documents = tuple(documents)
        self.spans, self.sentence_spans = spans, sentence_spans
        self.lexical, self.sentences, self.lsa, self.vectors = lexical, sentences, lsa, vectors
        self.version = version_of(self.documents)
        texts = (self.passage(number) for number in range(len(self)))
        self.longest = max((len(f"{one.title}{one.text}".encode("utf-8", "replace")) for one in texts), default=0)

    @classmethod
    def build(cls, documents: Sequence[Document]) -> Index:
        """Cut the documents into passages and learn both scores from them.

        Raises:
            InvalidInput: There is no text, or two documents have the same id.
        """
        check_documents(documents)
        cut = [(number, chunk) for number, document in enumerate(documents) for chunk in chunks(document)]
        spans = np.array([(number, chunk.start, chunk.end) for number, chunk in cut], dtype=np.int64)
        told = [(number, chunk, unit.sentence) for number, chunk in cut for unit in chunk.units if unit.says_something]
        units = np.array([(number, *sentence) for number, _, sentence in told], dtype=np.int64).reshape(-1, 3)
        said = [
            terms(f"{_above(documents[number], chunk, 1)}\n{documents[number].source[start:end]}")
            for number, chunk, (start, end) in told
        ]
        words = [terms(_searched(documents[number], chunk)) for number, chunk in cut]
        subjects = [" ".join(text) for text in words]
        tfidf = Tfidf.fit(subjects, analyzer=ANALYZER, min_df=min(2, len(cut)), max_terms=MAX_TERMS)
        lsa = Lsa.fit(tfidf, subjects, dimensions=DIMENSIONS)
        lexical = Lexical.build(words)
        # In one sentence a repeated word says no more, and length matters less than in a passage.
        sentences = Lexical.build(said, k1=0.4, b=0.5)
        return cls(documents, spans, units, lexical, sentences, lsa, lsa.embed(subjects))

    def __len__(self) -> int:
        return len(self.spans)

    def scores(self, query: str) -> FloatArray:
        """Return the fused score of every passage, shape (n,), 0..1.

        Both scores are divided by their maximum over the passages, so that their scales agree, and averaged with LEXICAL_WEIGHT. The
        whole is then scaled by the same average of what the two maxima were worth in themselves (share of the highest possible BM25
        score, cosine): a query about which the knowledge base says little gets low scores.
        """
        words = terms(query)
        lexical = self.lexical.scores(words)
        cosine = np.maximum(self.vectors @ self.embed(query), 0.0)
        best_lexical, best_cosine = float(lexical.max()), float(cosine.max())
        fused = np.zeros(len(self), dtype=np.float32)
        strength = 0.0
        if best_lexical > 0:
            fused += LEXICAL_WEIGHT / best_lexical * lexical
            strength += LEXICAL_WEIGHT * min(1.0, best_lexical / self.lexical.bound(words))
        if best_cosine > 0:
            fused += (1 - LEXICAL_WEIGHT) / best_cosine * cosine
            strength += (1 - LEXICAL_WEIGHT) * best_cosine
        return np.clip(fused * strength, 0.0, 1.0)

    def embed(self, text: str) -> FloatArray:
        """Return the embedding of a text's terms, shape (k,), of unit length or zero."""
        return self.lsa.project(self.lsa.tfidf.vector(" ".join(terms(text))))

    def search(self, query: str, k: int) -> tuple[Passage, ...]:
        """Return the best passages, best first, at most k; passages that match in nothing are left out."""
        scores = self.scores(query)
        return tuple(self.passage(number, float(scores[number])) for number in _top(scores, k))

    def best_sentences(self, query: str, n: int) -> tuple[Sentence, ...]:
        """Return the n sentences of the whole knowledge base that share most with the query's words, best first."""
        words = terms(query)
        scores = self.sentences.scores(words)
        bound = self.sentences.bound(words)
        return tuple(
            Sentence(self._quote(self.sentence_spans[number], share := min(1.0, float(scores[number]) / bound)), share)
            for number in _top(scores, n)
        )

    def passage(self, number: int, score: float = 0.0) -> Passage:
        """Return a passage by its number."""
        return self._quote(self.spans[number], score)

    def save(self, folder: Path) -> str:
        """Write the index to a folder that must not exist; return the content hash of what was written."""
        facts: dict[str, Any] = {
            "layout": LAYOUT,
            "version": self.version,
            "documents": [asdict(document) for document in self.documents],
        }
        arrays = {"spans": self.spans, "sentences": self.sentence_spans, "vectors": self.vectors}
        parts = {"lexical": self.lexical.state(), "sentences": self.sentences.state(), "lsa": self.lsa.state()}
        about = {"documents": len(self.documents), "passages": len(self), "embedder": self.lsa.fingerprint}
        return write_artifact(folder, KIND, join({"base": (facts, arrays), **parts}), about)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read an index.

        Raises:
            CorruptModel: The folder does not hold a whole index, or one of another layout.
        """
        artifact = read_artifact(folder, KIND)
        state = artifact.facts, artifact.arrays
        try:
            facts, arrays = part(state, "base")
            index = cls(
                [Document(**row) for row in facts["documents"]],
                arrays["spans"],
                arrays["sentences"],
                Lexical.from_state(*part(state, "lexical")),
                Lexical.from_state(*part(state, "sentences")),
                Lsa.from_state(*part(state, "lsa")),
                arrays["vectors"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptModel(f"The index in {folder} has not the layout {LAYOUT}: {error!r}.") from None
        if index.version != facts["version"]:
            raise CorruptModel(
                f"The index in {folder} has the version {facts['version']!r}, but its documents make {index.version!r}: build it again."
            )
        return index

    def _quote(self, span: IntArray, score: float) -> Passage:
        number, start, end = span.tolist()
        document = self.documents[number]
        return Passage(document.id, document.title, document.source[start:end], start, end, score)


def version_of(documents: Sequence[Document]) -> str:
    """Return the version of the index that these documents make: a hash of their content and of how it is cut and searched."""
    rules = (LAYOUT, LEXICAL_WEIGHT, DIMENSIONS, ANALYZER.words, ANALYZER.chars, MAX_TERMS)
    cuts = (cutting.TARGET, cutting.LONGEST, cutting.REMAINDER)
    facts = [rules, cuts, [(document.id, document.title, document.body, document.source) for document in documents]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _searched(document: Document, chunk: Chunk) -> str:
    """Return what a passage is found by: its text, the title and the headings above it."""
    return f"{_above(document, chunk)}\n{document.source[chunk.start : chunk.end]}"


def _above(document: Document, chunk: Chunk, nearest: int = 6) -> str:
    """Return the title and the nearest headings above a passage."""
    return "\n".join((document.title, *(heading for heading in chunk.headings[-nearest:] if heading != document.title)))


def _top(scores: FloatArray, k: int) -> list[int]:
    """Return the positions of the k greatest positive scores, greatest first, ties by position."""
    positive = np.flatnonzero(scores > 0)
    if k < 1 or not len(positive):
        return []
    if len(positive) > k:
        least = np.partition(scores[positive], -k)[-k]
        positive = positive[scores[positive] >= least]
    order = np.argsort(-scores[positive], kind="stable")[:k]
    return positive[order].tolist()
