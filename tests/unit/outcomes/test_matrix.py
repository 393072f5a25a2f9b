from __future__ import annotations

import numpy as np
import pytest

from modelyard.errors import InvalidTable
from modelyard.outcomes import OutcomeMatrix, validate
from tests.unit.outcomes.rows import PROMPTS, outcomes


def matrix(models: tuple[str, ...] = ("big", "small"), **changes: object) -> OutcomeMatrix:
    return OutcomeMatrix.of(validate(outcomes(**changes), "mine"), models, "mine")


def test_scores_stand_in_the_order_asked_for_and_missing_cells_are_nan() -> None:
    found = matrix()

    assert (found.models, found.prompt_ids, found.prompts) == (
        ("big", "small"),
        tuple(PROMPTS),
        tuple(PROMPTS.values()),
    )
    assert found.domains == ("css", "chat", "data")
    np.testing.assert_array_equal(found.scores, [[1.0, 0.25], [0.75, 0.5], [np.nan, 0.0]])
    assert np.isnan(found.costs_usd).all()


def test_prompts_that_no_asked_model_answered_are_left_out() -> None:
    assert matrix(("big",)).prompt_ids == ("p1", "p2")


def test_model_without_outcomes_is_refused() -> None:
    with pytest.raises(InvalidTable, match="mine has no outcome of the model 'huge'; it has big, small"):
        matrix(("small", "huge"))


def test_complete_keeps_prompts_that_every_model_answered() -> None:
    complete = matrix().complete()

    assert complete.prompt_ids == ("p1", "p2")
    assert np.isfinite(complete.scores).all()


def test_take_returns_rows_in_the_order_given() -> None:
    taken = matrix().take([2, 0])

    assert (taken.prompt_ids, taken.domains, len(taken)) == (("p3", "p1"), ("data", "css"), 2)
    np.testing.assert_array_equal(taken.scores, [[np.nan, 0.0], [1.0, 0.25]])


def test_recorded_length_counts_before_the_response_and_both_may_be_missing() -> None:
    found = matrix(output_chars=[7.0, None, None, None, None], response=["four", "fives", None, "", None])

    np.testing.assert_array_equal(found.output_chars, [[5.0, 7.0], [0.0, np.nan], [np.nan, np.nan]])


def test_prompt_tokens_are_a_quarter_of_the_characters() -> None:
    np.testing.assert_array_equal(matrix().prompt_tokens, [5.5, 1.0, 25.0])
