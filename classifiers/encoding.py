"""Learns how text becomes numbers: vocabulary, LSA projection, and the scaling of structure and keyword features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelyard.embedding import Lsa, Tfidf
from modelyard.embedding.tfidf import Analyzer
from modelyard.tasks.learned import DENSE_NAMES, Encoder, dense_features


@dataclass(frozen=True, slots=True)
class EncoderParams:
    """What is counted and how much it weighs.

    Attributes:
        chars: Lengths of character n-grams inside words, None for words only.
        min_df, max_terms: Texts that a term must stand in, and terms at the most.
        lsa_dimensions: Length of the LSA embedding.
        keyword_weight, structure_weight: Standard deviation of the keyword scores and of the other features, beside a text vector of unit
            length.
    """

    chars: tuple[int, int] | None = None
    min_df: int = 2
    max_terms: int = 30_000
    lsa_dimensions: int = 64
    structure_weight: float = 0.03
    keyword_weight: float = 0.25


def fit_encoder(texts: Sequence[str], params: EncoderParams, *, seed: int = 0) -> Encoder:
    """Learn an encoder from texts alone."""
    tfidf = Tfidf.fit(texts, analyzer=Analyzer(2, params.chars), min_df=params.min_df, max_terms=params.max_terms)
    dense = np.stack([dense_features(text, of_table=True) for text in texts])
    named = np.array([name.startswith("keywords_") for name in DENSE_NAMES])
    weights = np.where(named, params.keyword_weight, params.structure_weight)
    scale = dense.std(axis=0)
    # A feature that never varies must stay silent at prediction time, whatever its value there.
    scale = np.where(scale > 1e-9, scale, np.inf) / weights
    return Encoder(Lsa.fit(tfidf, texts, dimensions=params.lsa_dimensions, seed=seed), dense.mean(axis=0), scale)
