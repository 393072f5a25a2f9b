"""Turning text into numbers: TF-IDF and its low-rank projection (LSA), without a download."""

from modelyard.embedding.lsa import Lsa
from modelyard.embedding.tfidf import SparseVector, Tfidf
from modelyard.embedding.tokens import tokens

__all__ = ["Lsa", "SparseVector", "Tfidf", "tokens"]
