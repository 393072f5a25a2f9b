"""Finds the passages of a knowledge base that help with a prompt."""

from modelyard.retrieval.documents import Document, parse_document, read_documents
from modelyard.retrieval.index import Index, Sentence
from modelyard.retrieval.publishing import current_index, publish

__all__ = ["Document", "Index", "Sentence", "current_index", "parse_document", "publish", "read_documents"]
