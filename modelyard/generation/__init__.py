"""Drafts an answer: models behind an endpoint, and local extractive models over the knowledge base."""

from __future__ import annotations

from modelyard.catalog import BaseModel
from modelyard.errors import UnknownModel
from modelyard.generation.base import Generator
from modelyard.generation.local import LocalExtractive
from modelyard.generation.openai_compatible import OpenAICompatible
from modelyard.retrieval import Index
from modelyard.upstream import Upstream

__all__ = ["Generator", "LocalExtractive", "OpenAICompatible", "make_generator"]


def make_generator(model: BaseModel, *, index: Index | None, upstream: Upstream) -> Generator:
    """Return what drafts answers for a base model.

    Args:
        model: From the catalogue.
        index: What local models answer from; None where no knowledge base was built.
        upstream: The HTTP client of models behind an endpoint.

    Raises:
        UnknownModel: The model is known from recorded outcomes only.
        InvalidSetting: The catalogue lacks something that its kind needs.
    """
    if model.kind == "local":
        return LocalExtractive(model, index)
    if model.kind == "openai":
        return OpenAICompatible(model, upstream)
    raise UnknownModel(f"The model {model.name!r} is known from recorded outcomes only, so it cannot draft an answer.")
