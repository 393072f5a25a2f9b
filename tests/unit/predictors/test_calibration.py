from __future__ import annotations

import numpy as np
import pytest

from modelyard.predictors import Platt, sigmoid, sigmoid_row, softmax, softmax_row
from modelyard.predictors.calibration import logit

HUGE = np.array([-1e308, -1e4, -1.0, 0.0, 1.0, 1e4, 1e308])


def test_sigmoid_stays_within_0_and_1_without_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        squashed = sigmoid(HUGE)

    assert (squashed[0], squashed[3], squashed[-1]) == (0.0, 0.5, 1.0)
    assert squashed[4] == pytest.approx(1 / (1 + np.exp(-1)))
    assert (np.diff(squashed) >= 0).all()


def test_softmax_sums_to_one_without_overflow() -> None:
    rows = np.array([[1e4, 0.0, -1e4], [700.0, 710.0, 720.0], [0.0, 0.0, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        shares = softmax(rows)

    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares[0], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(shares[2], 1 / 3)


def test_softmax_does_not_change_when_all_scores_shift() -> None:
    rows = np.array([[0.1, -2.0, 3.0]])

    np.testing.assert_allclose(softmax(rows), softmax(rows + 500.0))


def test_logit_undoes_sigmoid_and_stays_finite_at_the_edges() -> None:
    p = np.array([0.01, 0.4, 0.99])

    np.testing.assert_allclose(sigmoid(logit(p)), p)
    assert np.isfinite(logit(np.array([0.0, 1.0, -3.0, 7.0]))).all()


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.2, -3.0), (4.0, 1.5)])
def test_platt_is_strictly_monotone(slope: float, intercept: float) -> None:
    p = np.linspace(0.001, 0.999, 500)[:, None]
    calibrated = Platt(np.array([slope]), np.array([intercept]))(p)

    assert (np.diff(calibrated, axis=0) > 0).all()
    assert calibrated.min() > 0.0
    assert calibrated.max() < 1.0


def test_platt_calibrates_each_column_by_itself() -> None:
    p = np.full((3, 2), 0.5)
    calibrated = Platt(np.ones(2), logit(np.array([0.2, 0.9])))(p)

    np.testing.assert_allclose(calibrated, [[0.2, 0.9]] * 3)


def test_identity_changes_nothing_between_the_edges() -> None:
    p = np.array([[0.01, 0.5], [0.7, 0.999]])

    np.testing.assert_allclose(Platt.identity(2)(p), p)


def test_state_rebuilds_the_map() -> None:
    platt = Platt(np.array([0.5, 2.0]), np.array([0.1, -1.0]))
    p = np.array([0.3, 0.6])

    np.testing.assert_array_equal(Platt.from_state(*platt.state())(p), platt(p))


@pytest.mark.parametrize("row", [[0.0], [0.1, 0.7], [-1e308, 1e4, 3.0], [700.0, 710.0, -20.0, 0.5]])
def test_rows_of_a_few_numbers_are_squashed_as_arrays_are(row: list[float]) -> None:
    platt = Platt(np.linspace(0.5, 2.0, len(row)), np.linspace(-1.0, 1.0, len(row)))

    np.testing.assert_allclose(softmax_row(row), softmax(np.array(row)), rtol=1e-14)
    np.testing.assert_allclose(sigmoid_row(row), sigmoid(np.array(row)), rtol=1e-14)
    np.testing.assert_allclose(platt.row(row), platt(np.array(row)), rtol=1e-12)
