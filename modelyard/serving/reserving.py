"""What is reserved for a chat request before it is answered: the most that it can cost, whichever model answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.catalog import BaseModel
from modelyard.composite import CompositeModel
from modelyard.generation.bounds import prompt_bound
from modelyard.generation.prompting import most_tokens, prompt_tokens
from modelyard.types import Message, Usage

PASSAGE_TOKENS: Final = 250  # of a passage that retrieval puts before the model, about
LONGEST_LOCAL: Final = 4  # times its typical length is the longest answer of a local model


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a request takes at most.

    Attributes:
        most: The prompt's tokens (about), the longest answer's, and the most that the dearest model may charge for both.
        least_tokens: What it takes in any case, where the caller set no length for the answer; else None.
    """

    most: Usage
    least_tokens: int | None = None


NOTHING: Final = Reservation(Usage(0, 0, 0.0))


def reservation(model: CompositeModel, message: Message) -> Reservation:
    """Return what to reserve for a message.

    Money is reserved for every byte of the prompt, so that a budget holds whatever is sent; tokens a minute for the prompt's typical size,
    since what it really took is counted a moment later. An answer is reserved at the caller's `max_tokens`, or at the model's longest.
    """
    parts, limit = model.parts, most_tokens(message)
    sources = parts.spec.passages if parts.index is not None else 0
    longest = parts.index.longest if parts.index is not None else 0
    bound = prompt_bound(message, passages=sources, longest=longest)
    dearest, tokens = 0.0, 0
    for candidate in parts.callable_models:
        written = _longest(candidate, limit)
        dearest, tokens = max(dearest, candidate.price.cost(bound.of(candidate), written)), max(tokens, written)
    prompt = prompt_tokens(message.turns, message.parameters) + PASSAGE_TOKENS * sources
    return Reservation(Usage(prompt, tokens, dearest), None if limit else prompt)


def _longest(model: BaseModel, limit: int) -> int:
    """Return the tokens of the longest answer of a model; local ones heed no limit."""
    if model.kind == "local":
        return LONGEST_LOCAL * model.output_tokens
    return limit or model.max_output_tokens or model.context_window
