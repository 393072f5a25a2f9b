"""Every figure is worked out by hand; the sums stand beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from experiments.router_metrics import (
    Curves,
    Singles,
    area_under_hull,
    curve_of_choices,
    curve_of_singles,
    gain_curve_metrics,
    per_resample,
    quality_metrics,
    resampling_weights,
    summarise,
    undefined,
    upper_hull,
)

FloatArray = npt.NDArray[np.float64]
NO_GAP = {"value": None, "reason": "the dear model scores no better than the cheap one, so there is no gap to recover"}


def row(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float64)


def alone(n: int) -> FloatArray:
    """Weights of the sample itself, without resamples."""
    return np.full((1, n), 1.0 / n)


def gain(preference: FloatArray, gains: FloatArray, *, seed: int = 0) -> dict[str, float]:
    found = gain_curve_metrics(preference, np.zeros(len(gains)), gains, alone(len(gains)), seed=seed)
    return {name: estimate["value"] for name, estimate in found.items()}


# Shares 0, ¼, ½, ¾, 1; PGR beside each order of the gains (1, 1, 0, 0); the area is ¼ · Σ of the means of neighbours.
@pytest.mark.parametrize(
    ("order", "apgr", "cpt50", "cpt80"),
    [
        ((1, 1, 0, 0), 0.75, 0.25, 0.5),  # 0 ½ 1 1 1 → ¼ (0.25 + 0.75 + 1 + 1)
        ((1, 0, 1, 0), 0.625, 0.25, 0.75),  # 0 ½ ½ 1 1 → ¼ (0.25 + 0.5 + 0.75 + 1)
        ((0, 1, 1, 0), 0.5, 0.5, 0.75),  # 0 0 ½ 1 1 → ¼ (0 + 0.25 + 0.75 + 1)
        ((0, 0, 1, 1), 0.25, 0.75, 1.0),  # 0 0 0 ½ 1 → ¼ (0 + 0 + 0.25 + 0.75)
    ],
)
def test_gain_by_order_of_preference(order: tuple[float, ...], apgr: float, cpt50: float, cpt80: float) -> None:
    assert gain(row(4, 3, 2, 1), row(*order)) == pytest.approx({"apgr": apgr, "cpt50": cpt50, "cpt80": cpt80})


def test_only_the_gap_between_the_models_counts() -> None:
    cheap, gains = row(0.2, 0.5, 0.1, 0.4), row(0.4, 0.0, 0.4, 0.0)
    found = gain_curve_metrics(row(4, 3, 2, 1), cheap, cheap + gains, alone(4))
    assert found["apgr"]["value"] == pytest.approx(0.625)


def test_a_cheap_model_that_wins_somewhere_lets_the_gain_pass_one() -> None:
    # Gains 1, 1, −1: shares 0, ⅓, ⅔, 1 and PGR 0, 1, 2, 1 → ⅓ (0.5 + 1.5 + 1.5).
    found = gain(row(3, 2, 1), row(1, 1, -1))
    assert found == pytest.approx({"apgr": 3.5 / 3, "cpt50": 1 / 3, "cpt80": 1 / 3})


def test_ties_are_broken_at_random_and_not_by_the_order_of_the_table() -> None:
    sorted_by_gain = row(1, 1, 1, 1, 0, 0, 0, 0)
    areas = np.array([gain(np.zeros(8), sorted_by_gain, seed=seed)["apgr"] for seed in range(600)])
    assert areas.mean() == pytest.approx(0.5, abs=0.02)  # of a router that knows nothing
    assert areas.std() > 0.05
    assert gain(np.zeros(8), sorted_by_gain, seed=3) == gain(np.zeros(8), sorted_by_gain, seed=3)


def test_ties_change_nothing_where_the_preference_decides() -> None:
    # Both prompts of each tie gain the same, so that every way of breaking them gives the first row of the table above.
    assert {gain(row(2, 2, 1, 1), row(1, 1, 0, 0), seed=seed)["apgr"] for seed in range(20)} == {0.75}


@pytest.mark.parametrize("gains", [(0, 0, 0), (1, -1, 0), (-1, 0, 0)])
def test_without_a_gap_there_is_nothing_to_recover(gains: tuple[float, ...]) -> None:
    found = gain_curve_metrics(row(3, 2, 1), np.zeros(3), row(*gains), alone(3))
    assert found == {"apgr": NO_GAP, "cpt50": NO_GAP, "cpt80": NO_GAP}


def test_one_prompt_is_a_step() -> None:
    assert gain(row(1), row(0.3)) == pytest.approx({"apgr": 0.5, "cpt50": 1.0, "cpt80": 1.0})


@pytest.mark.parametrize("n", [20, 25, 35, 45, 55, 1000])
def test_levels_that_are_reached_on_paper_are_reached(n: int) -> None:
    """Eight tenths of n equal gains are a PGR of 0.8, whatever the rounding of their sum."""
    assert gain(np.arange(n, dtype=float), np.ones(n))["cpt80"] == pytest.approx(np.ceil(0.8 * n) / n)


def test_interval_is_over_the_resamples() -> None:
    weights = np.vstack([alone(4), [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 0.5, 0.0]])
    found = gain_curve_metrics(row(4, 3, 2, 1), np.zeros(4), row(1, 0, 1, 0), weights)["apgr"]
    # Each resample holds a prompt with gain 1 before one with gain 0 (¾), or two with gain 1 (½): 0.75, 0.75, 0.5.
    assert found["value"] == 0.625
    assert found["ci95"] == pytest.approx([0.5 + 0.05 * 0.25, 0.75])


def test_resamples_without_a_gap_are_left_out_of_the_interval() -> None:
    weights = np.vstack([alone(2), [0.0, 1.0], [0.5, 0.5]])
    found = gain_curve_metrics(row(2, 1), np.zeros(2), row(1, 0), weights)["apgr"]
    assert found == {"value": 0.75, "ci95": [0.75, 0.75]}


def test_weights_are_shares_of_whole_prompts() -> None:
    weights = resampling_weights(7, resamples=50, seed=1)
    assert weights.shape == (51, 7)
    assert weights[0] == pytest.approx(np.full(7, 1 / 7))
    assert weights.sum(axis=1) == pytest.approx(np.ones(51))
    assert 7 * weights[1:] == pytest.approx(np.round(7 * weights[1:]))
    np.testing.assert_array_equal(weights, resampling_weights(7, resamples=50, seed=1))
    assert (weights != resampling_weights(7, resamples=50, seed=2)).any()


def test_summary_takes_the_percentiles_of_what_is_finite() -> None:
    values = np.concatenate([[1.0], np.arange(101.0), [np.nan, np.inf]])
    assert summarise(values, "why") == {"value": 1.0, "ci95": [2.5, 97.5]}
    assert summarise(row(np.nan, 1.0), "why") == undefined("why") == {"value": None, "reason": "why"}
    assert summarise(row(0.5), "why") == {"value": 0.5, "ci95": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("costs", "scores", "corners"),
    [
        ((1, 2, 3), (0.4, 0.7, 0.8), [(1, 0.4), (2, 0.7), (3, 0.8)]),
        ((3, 1, 2), (0.8, 0.4, 0.7), [(1, 0.4), (2, 0.7), (3, 0.8)]),  # in any order
        ((1, 2, 3), (0.4, 0.5, 0.8), [(1, 0.4), (3, 0.8)]),  # below the line between its neighbours (0.6)
        ((1, 2, 3), (0.4, 0.6, 0.8), [(1, 0.4), (3, 0.8)]),  # on it
        ((1, 2, 3), (0.4, 0.9, 0.8), [(1, 0.4), (2, 0.9)]),  # dearer and worse
        ((1, 1, 2), (0.4, 0.6, 0.6), [(1, 0.6)]),  # same cost, and same score for more
        ((1, 1), (0.6, 0.6), [(1, 0.6)]),
        ((0, 1, 2, 3), (0.0, 0.1, 0.2, 0.9), [(0, 0.0), (3, 0.9)]),  # two corners taken back by a third
    ],
)
def test_corners_of_the_hull(costs: tuple, scores: tuple, corners: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(upper_hull(row(*costs), row(*scores)), np.array(corners, dtype=float))


CHEAP_AND_DEAR = (row(1, 3), row(0.4, 0.8))  # costs and scores of the single models


@pytest.mark.parametrize(
    ("corners", "area"),
    [
        ([(1, 0.4), (3, 0.8)], 0.6),  # the single models themselves: (0.4 + 0.8) / 2
        ([(1, 0.4), (2, 0.7), (3, 0.8)], 0.65),  # (0.55 + 0.75) / 2
        ([(1, 0.4), (2, 0.9)], 0.775),  # flat behind its last corner: (0.65 + 0.9) / 2
        ([(2, 0.7), (3, 0.8)], 0.375),  # nothing before its first corner: 0.75 / 2
        ([(0, 0.2), (2, 0.7), (3, 0.8)], 0.6625),  # 0.45 where the range begins: (0.575 + 0.75) / 2
        ([(1, 0.4), (5, 0.8)], 0.5),  # 0.6 where the range ends: (0.4 + 0.6) / 2
        ([(0.5, 0.9)], 0.9),  # cheaper and better than both
        ([(4, 0.9)], 0.0),  # dearer than both
    ],
)
def test_area_under_the_hull_over_the_range_of_the_single_models(corners: list, area: float) -> None:
    assert area_under_hull(np.array(corners, dtype=float), *CHEAP_AND_DEAR) == pytest.approx(area)


def test_first_corner_a_rounding_error_to_the_right_still_counts_from_the_cheapest_model() -> None:
    hull = np.array([(1 + 1e-12, 0.4), (3, 0.8)])
    assert area_under_hull(hull, *CHEAP_AND_DEAR) == pytest.approx(0.6)


def singles() -> Singles:
    return Singles(row(1, 3)[None, :], row(0.4, 0.8)[None, :])


def quality(costs: tuple[float, ...], scores: tuple[float, ...], of: Singles | None = None) -> dict[str, object]:
    curves = Curves(row(*costs)[None, :], row(*scores)[None, :])
    return {name: found.get("value", found) for name, found in quality_metrics(curves, of or singles()).items()}


def test_savings_lie_on_the_hull() -> None:
    # 95 % of 0.8 is 0.76, 0.6 of the way from (2, 0.7) to (3, 0.8): cost 2.6; 99 % is 0.792, cost 2.92.
    found = quality((1, 2, 3), (0.4, 0.7, 0.8))
    assert found == pytest.approx({"aiq": 0.65, "saving_95": 1 - 2.6 / 3, "saving_99": 1 - 2.92 / 3})


def test_router_better_than_every_single_model_saves_more() -> None:
    # 0.76 is 0.72 of the way from (1, 0.4) to (2, 0.9).
    assert quality((1, 2), (0.4, 0.9))["saving_95"] == pytest.approx(1 - 1.72 / 3)
    assert quality((0.5,), (0.9,))["saving_99"] == pytest.approx(1 - 0.5 / 3)  # its first corner is good enough


def test_saving_is_undefined_where_the_score_is_not_reached() -> None:
    found = quality_metrics(Curves(row(1, 2)[None, :], row(0.4, 0.77)[None, :]), singles())
    assert found["saving_95"]["value"] == pytest.approx(1 - (1 + 0.36 / 0.37) / 3)
    reason = "no trade-off reaches 99% of the best single model's score"
    assert found["saving_99"] == {"value": None, "reason": reason}


def test_dearer_router_saves_less_than_nothing() -> None:
    assert quality((6,), (0.8,))["saving_95"] == pytest.approx(-1.0)


def test_models_of_one_price_have_no_range_and_free_ones_nothing_to_save() -> None:
    equal = Singles(row(2, 2)[None, :], row(0.4, 0.8)[None, :])
    found = quality_metrics(curve_of_singles(equal), equal)
    assert found["aiq"] == {"value": None, "reason": "all single models cost the same"}
    assert found["saving_95"]["value"] == pytest.approx(0.0)
    free = Singles(np.zeros((1, 2)), row(0.4, 0.8)[None, :])
    found = quality_metrics(curve_of_singles(free), free)
    assert found["saving_95"] == {"value": None, "reason": "the best single model costs nothing"}


def test_singles_and_choices_are_averaged_with_the_weights() -> None:
    scores, costs = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 5.0], [1.0, 9.0]])
    weights = np.array([[0.5, 0.5], [1.0, 0.0]])
    found = Singles.of(scores, costs, weights)
    np.testing.assert_allclose(found.scores, [[0.5, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.costs, [[1.0, 7.0], [1.0, 5.0]])
    # Two trade-offs: always the first model, and the second one for the first prompt only.
    curves = curve_of_choices(np.array([[0, 0], [1, 0]]), scores, costs, weights)
    np.testing.assert_allclose(curves.scores, [[0.5, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(curves.costs, [[1.0, 3.0], [1.0, 5.0]])
    areas = per_resample(curves, found, area_under_hull)
    # Costs 1 … 7: 0.75 to cost 3, then 1: (2 · 0.75 + 4 · 1) / 6; in the resample costs 1 … 5: 0.5.
    assert areas == pytest.approx([5.5 / 6, 0.5])
