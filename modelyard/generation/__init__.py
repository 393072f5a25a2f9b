"""Drafts an answer: models behind an endpoint, and local extractive models over the knowledge base."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.catalog import BaseModel
from modelyard.errors import UnknownModel
from modelyard.generation.base import Generator
from modelyard.generation.course import Trail
from modelyard.generation.dispatch import Dispatcher
from modelyard.generation.local import LocalExtractive
from modelyard.generation.openai_compatible import OpenAICompatible
from modelyard.retrieval import Index
from modelyard.routing.router import ModelRouter
from modelyard.upstream import DeploymentStates, Upstream

__all__ = [
    "Dispatcher",
    "Generator",
    "LocalExtractive",
    "OpenAICompatible",
    "Trail",
    "make_dispatcher",
    "make_generator",
]


def make_dispatcher(
    models: Mapping[str, BaseModel], *, index: Index | None, upstream: Upstream, states: DeploymentStates
) -> Dispatcher:
    """Return what drafts answers for every served model of a catalogue.

    Args:
        models: By name; those known from recorded outcomes only are never called.
        index: What local models answer from; None where no knowledge base was built.
        upstream: The HTTP client of models behind an endpoint.
        states: What is known of each deployment; outlives the dispatcher.

    Raises:
        InvalidSetting: The catalogue lacks something that a model's kind needs.
    """
    local = {name: LocalExtractive(model, index) for name, model in models.items() if model.kind == "local"}
    callable_ = {name: model for name, model in models.items() if model.kind != "recorded"}
    return Dispatcher(ModelRouter(callable_, states), upstream, local)


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
