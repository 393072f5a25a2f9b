from __future__ import annotations

import pytest

from experiments.scoring import BUDGETS, focus, score_answer
from modelyard.errors import InvalidEvalSet


def test_score_is_the_share_of_facts_held() -> None:
    assert score_answer("Use ZOD here", ["zod", "yup|valibot"], "simple") == 0.5
    assert score_answer("zod or yup", ["zod", "yup|valibot"], "simple") == 1.0
    assert score_answer("", ["zod"], "simple") == 0.0


def test_length_costs_nothing_within_the_budget_and_half_at_four_times() -> None:
    assert focus(BUDGETS["simple"], "simple") == 1.0
    assert focus(4 * BUDGETS["simple"], "simple") == 0.5
    text = "zod".ljust(4 * BUDGETS["moderate"])
    assert score_answer(text, ["zod"], "moderate") == 0.5
    assert score_answer(text, ["zod"], "complex") == pytest.approx(0.5**0.5)


def test_prompt_without_facts_is_not_scored() -> None:
    assert score_answer("anything", [], "simple") is None


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "(a+)+$"])
def test_pattern_that_cannot_be_used_is_named(pattern: str) -> None:
    with pytest.raises(InvalidEvalSet, match="A fact's pattern"):
        score_answer("a", [pattern], "simple")


def test_unknown_complexity_is_named() -> None:
    with pytest.raises(InvalidEvalSet, match="'hard'"):
        score_answer("a", ["a"], "hard")
