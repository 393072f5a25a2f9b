"""Every figure is worked out by hand; the sums stand beside it."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.calibration import BINS, brier_skill, brier_skill_classes, calibration_error, top_label


def error(p: list[float], y: list[float], bins: int) -> float | None:
    return calibration_error(np.array(p), np.array(y, dtype=float), bins=bins)


def test_error_is_the_root_mean_square_of_the_bins_gaps() -> None:
    # Bins (0.1, 0.3 | 0, 0) and (0.6, 0.8 | 1, 1): gaps 0.2 and −0.3, no noise in either: √(½ 0.04 + ½ 0.09).
    assert error([0.1, 0.3, 0.6, 0.8], [0, 0, 1, 1], 2) == pytest.approx(0.065**0.5)


def test_noise_of_a_bin_is_subtracted() -> None:
    # Bin (0, 0, 0, 0 | 0, 0, 0, 1): gap² 0.0625, variance 0.25 over 4 outcomes: 0.0625 − 0.0625. Bin (1 … | 0 …): gap 1: √(½ · 1).
    assert error([0] * 4 + [1] * 4, [0, 0, 0, 1, 0, 0, 0, 0], 2) == pytest.approx(0.5**0.5)


def test_noise_greater_than_the_gaps_is_no_error() -> None:
    # Bins (0.1, 0.3 | 0, 1): 0.09 − 0.5 / 2, and (0.6, 0.8 | 1, 1): 0.09; together below zero.
    assert error([0.1, 0.3, 0.6, 0.8], [0, 1, 1, 1], 2) == 0.0


def test_bins_hold_as_many_predictions_each_wherever_these_lie() -> None:
    # Three of four predictions stand close together: bins of equal width would put them into one.
    p, y = [0.90, 0.91, 0.92, 0.10], [1, 1, 1, 0]
    # Sorted: (0.10, 0.90 | 0, 1): 0 − 0.5 / 2; (0.91, 0.92 | 1, 1): 0.085². The first outweighs the second.
    assert error(p, y, 2) == 0.0
    # Alone in its bin the second would give its gap.
    assert error([0.91, 0.92], [1, 1], 1) == pytest.approx(0.085)


def test_bins_of_unequal_size_count_by_their_share() -> None:
    # Five predictions in two bins: three (gap 0.1) and two (gap 0.4): √(0.6 · 0.01 + 0.4 · 0.16).
    assert error([0.1, 0.1, 0.1, 0.6, 0.6], [0, 0, 0, 1, 1], 2) == pytest.approx(0.07**0.5)


def test_graded_outcomes_count_as_they_are() -> None:
    assert error([0.5, 0.5], [0.3, 0.3], 1) == pytest.approx(0.2)


def test_order_of_the_predictions_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(300)
    y = (rng.random(300) < p**2).astype(float)
    order = rng.permutation(300)
    assert calibration_error(p[order], y[order]) == pytest.approx(calibration_error(p, y))


def test_fifteen_bins_need_two_predictions_each() -> None:
    p, y = np.linspace(0, 1, 30), np.linspace(0, 1, 30)
    assert BINS == 15
    assert calibration_error(p[:29], y[:29]) is None
    assert calibration_error(p, y) == 0.0
    assert calibration_error(p[:0], y[:0]) is None


def test_estimate_is_not_biased_by_few_outcomes_a_bin() -> None:
    """The squared error of calibrated predictions is 0; the plug-in estimate would say 0.04 with three outcomes a bin."""
    rng = np.random.default_rng(3)
    corrected, plug_in = [], []
    for _ in range(400):
        p = np.sort(rng.uniform(0.2, 0.8, 45))
        y = (rng.random(45) < p).astype(float)
        bins = np.array_split(np.arange(45), 15)
        plug_in.append(np.mean([(p[rows] - y[rows]).mean() ** 2 for rows in bins]))
        corrected.append(np.mean([(p[r] - y[r]).mean() ** 2 - y[r].var(ddof=1) / 3 for r in bins]))
        assert calibration_error(p, y) == pytest.approx(max(0.0, corrected[-1]) ** 0.5)
    assert np.mean(corrected) == pytest.approx(0.0, abs=0.006)
    assert np.mean(plug_in) > 0.04


def test_known_miscalibration_is_found() -> None:
    rng = np.random.default_rng(4)
    p = rng.uniform(0, 0.8, 60_000)
    assert calibration_error(p, (rng.random(60_000) < p + 0.2).astype(float)) == pytest.approx(0.2, abs=0.01)


def test_brier_skill_by_hand() -> None:
    # Squares: 0.04 + 0.04 against 0.25 + 0.25: 1 − 0.08 / 0.5.
    p, y, reference = np.array([0.8, 0.2]), np.array([1.0, 0.0]), np.array([0.5, 0.5])
    assert brier_skill(p, y, reference) == pytest.approx(0.84)
    assert brier_skill(reference, y, reference) == 0.0
    assert brier_skill(1 - p, y, reference) == pytest.approx(1 - 1.28 / 0.5)
    assert brier_skill(p, y, y) is None


def test_confidence_of_the_predicted_class() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2]])
    confidence, right = top_label(probabilities, np.array([0, 1, 1]))
    assert confidence.tolist() == [0.7, 0.6, 0.4]
    assert right.tolist() == [1.0, 0.0, 0.0]  # the first of two equal classes is the predicted one


def test_brier_skill_of_classes_by_hand() -> None:
    # Shares ½ and ½: 0.5 a row. Predictions 0.9/0.1 (right) and 0.4/0.6 (right): 0.02 and 0.32, mean 0.17.
    probabilities, labels = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 1])
    assert brier_skill_classes(probabilities, labels) == pytest.approx(1 - 0.17 / 0.5)
    assert brier_skill_classes(probabilities, np.array([0, 0])) is None  # one class only: its share is perfect
