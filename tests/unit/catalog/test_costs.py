from __future__ import annotations

import numpy as np
import pytest

from modelyard.catalog import DEFAULT_OUTPUT_TOKENS, BaseModel, Price, realised_costs
from modelyard.outcomes import OutcomeMatrix, validate
from tests.unit.outcomes.rows import outcomes

PRICES = {"small": Price(request=0.5), "big": Price(input=2e6, output=1e6)}


def matrix(**changes: object) -> OutcomeMatrix:
    return OutcomeMatrix.of(validate(outcomes(**changes), "mine"), ("small", "big"), "mine")


def test_recorded_costs_serve_where_every_answer_has_one() -> None:
    found = realised_costs(matrix(cost_usd=[1.0, 2.0, 3.0, 4.0, 5.0]), PRICES, {})

    np.testing.assert_array_equal(found[:, 0], [1.0, 3.0, 5.0])


def test_list_prices_serve_for_all_answers_of_a_model_where_one_was_not_priced() -> None:
    found = realised_costs(matrix(cost_usd=[1.0, 2.0, None, 4.0, 5.0]), PRICES, {})

    np.testing.assert_array_equal(found[:, 0], [0.5, 0.5, 0.5])


def test_unknown_length_counts_as_the_models_mean_length() -> None:
    found = realised_costs(matrix(output_chars=[None, 40.0, None, 80.0, None]), PRICES, {})

    np.testing.assert_allclose(found[:, 1], [11.0 + 10.0, 2.0 + 20.0, 50.0 + 15.0])


@pytest.mark.parametrize(("known", "tokens"), [({}, DEFAULT_OUTPUT_TOKENS), ({"big": 7}, 7)])
def test_typical_length_serves_where_no_answer_has_one(known: dict[str, int], tokens: int) -> None:
    models = {name: BaseModel(name, "recorded", Price(), output_tokens=length) for name, length in known.items()}

    np.testing.assert_allclose(realised_costs(matrix(), PRICES, models)[:, 1], np.array([11.0, 2.0, 50.0]) + tokens)


def test_the_matrix_is_left_as_it_was() -> None:
    given = matrix()
    realised_costs(given, PRICES, {})

    assert np.isnan(given.costs_usd).all()
