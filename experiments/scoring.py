"""Scores an answer to a prompt of an eval set: does it hold the facts, and does it keep to them?

    score = share of the required facts × focus
    focus = min(1, budget / length) ** 0.5

The first factor alone would crown whoever quotes the whole knowledge base. A person who asked for one number and gets four passages has
to search again: focus takes that into account. Up to the budget length costs nothing; at four times the budget half the score is left.
The budgets are about what a good answer takes by the label guide: one to three sentences or five lines of code (simple), a paragraph
or two or one function (moderate), several parts (complex).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from eval_sets.patterns import BadPattern, compiled
from modelyard.errors import InvalidEvalSet

BUDGETS: Final[Mapping[str, int]] = {"simple": 400, "moderate": 900, "complex": 1800}  # characters


def score_answer(text: str, facts: Sequence[str], complexity: str) -> float | None:
    """Score one answer.

    Args:
        text: The answer.
        facts: Regular expressions, each for one required fact; searched without regard to case.
        complexity: `simple`, `moderate` or `complex`.

    Returns:
        0..1, or None where the prompt has no facts: such a row is not scored.

    Raises:
        InvalidEvalSet: A pattern cannot be used, or there is no such complexity.
    """
    if complexity not in BUDGETS:
        raise InvalidEvalSet(f"A complexity must be one of {', '.join(BUDGETS)}, but got {complexity!r}.")
    if not facts:
        return None
    try:
        held = sum(compiled(fact).search(text) is not None for fact in facts)
    except BadPattern as error:
        raise InvalidEvalSet(f"A fact's pattern {error}.") from None
    return held / len(facts) * focus(len(text), complexity)


def focus(length: int, complexity: str) -> float:
    """Return how much of the score an answer of that many characters keeps, 0..1."""
    return min(1.0, BUDGETS[complexity] / max(1, length)) ** 0.5
