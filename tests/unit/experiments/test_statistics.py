from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import (
    Estimate,
    bootstrap_means,
    by_group,
    holm,
    paired_difference,
    t_difference,
    t_test,
)
from modelyard.errors import InvalidInput

rng = np.random.default_rng(5)
A, B = rng.beta(2, 1, 300), rng.beta(2, 1.2, 300)


def test_value_is_the_mean_of_paired_differences() -> None:
    found = paired_difference(A, B, seed=1)
    assert found.value == pytest.approx(float((A - B).mean()))
    assert found.low < found.value < found.high


def test_same_seed_gives_the_same_interval() -> None:
    assert paired_difference(A, B, seed=1) == paired_difference(A, B, seed=1)
    assert paired_difference(A, B, seed=1) != paired_difference(A, B, seed=2)


def test_bootstrap_agrees_with_scipy() -> None:
    reference = stats.bootstrap(
        ((A - B),), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0), vectorized=True
    ).confidence_interval
    found = paired_difference(A, B, seed=1)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.003)


def test_t_interval_and_p_value_are_scipys() -> None:
    reference = stats.ttest_rel(A, B)
    interval = reference.confidence_interval(0.95)
    found = t_difference(A, B)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert t_test(A, B) == pytest.approx(reference.pvalue, rel=1e-9)


def test_bootstrap_agrees_with_the_t_interval_on_many_pairs() -> None:
    boot, t = paired_difference(A, B, seed=3), t_difference(A, B)
    assert (boot.low, boot.high) == pytest.approx((t.low, t.high), abs=0.004)


@pytest.mark.parametrize("kind", ["graded", "right or wrong"])
def test_interval_covers_the_truth_about_as_often_as_it_says(kind: str) -> None:
    draw = np.random.default_rng(11)
    truth, hits, repeats = 0.1, 0, 400
    for repeat in range(repeats):
        if kind == "graded":
            baseline = draw.beta(2, 2, 80)
            challenger = baseline + truth + draw.normal(0, 0.3, 80)
        else:
            baseline, challenger = (draw.random(80) < 0.5).astype(float), (draw.random(80) < 0.6).astype(float)
        found = paired_difference(challenger, baseline, seed=repeat, resamples=1000)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / repeats <= 0.98


def test_few_distinct_values_are_resampled_from_the_same_distribution() -> None:
    wins = np.repeat([-1.0, 0.0, 1.0], [30, 100, 70])
    fast = bootstrap_means(wins, seed=1, resamples=20_000)
    slow = wins[np.random.default_rng(2).integers(0, 200, (20_000, 200))].mean(axis=1)
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.002)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.006)


def test_resampling_in_blocks_keeps_memory_bounded_and_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_means(A, seed=1, resamples=3000)
    monkeypatch.setattr("experiments.statistics._CELLS", 7 * len(A))
    blocks = bootstrap_means(A, seed=1, resamples=3000)
    assert blocks == pytest.approx(whole)


def test_equal_arms_differ_by_exactly_nothing() -> None:
    assert paired_difference(A, A, seed=1) == Estimate(0.0, 0.0, 0.0)
    assert t_difference(A, A) == Estimate(0.0, 0.0, 0.0)
    assert t_test(A, A) is None


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_are_undefined_with_a_reason(n: int) -> None:
    found = paired_difference(A[:n], B[:n], seed=1)
    assert found.to_json() == {"value": None, "reason": f"at least 2 pairs are needed, but there are {n}"}
    assert t_difference(A[:n], B[:n]).value is None
    assert t_test(A[:n], B[:n]) is None


def test_estimate_json_form() -> None:
    assert Estimate(0.5, 0.4, 0.6).to_json() == {"value": 0.5, "ci95": [0.4, 0.6]}


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"shapes are \(3,\) and \(2,\)"):
        paired_difference([1, 2, 3], [1, 2], seed=1)
    with pytest.raises(InvalidInput, match="Pair 1 of the baseline is nan"):
        paired_difference([1, 2, 3], [1, math.nan, 3], seed=1)
    with pytest.raises(InvalidInput, match="at least 1000 resamples, but got 10"):
        paired_difference([1, 2, 3], [1, 2, 3], seed=1, resamples=10)
    with pytest.raises(InvalidInput, match="3 pairs and 2 groups"):
        by_group([1, 2, 3], [1, 2, 3], ["a", "b"], seed=1)


def test_groups_are_compared_apart_and_corrected_together() -> None:
    groups = ["chat" if i % 3 == 0 else "code" for i in range(300)]
    found = by_group(A, B, groups, seed=1)
    code = [i for i in range(300) if i % 3]
    assert list(found) == ["chat", "code"]
    assert found["code"].n == 200
    assert found["code"].difference == paired_difference(A[code], B[code], seed=1)
    assert found["code"].p_value == pytest.approx(stats.ttest_rel(A[code], B[code]).pvalue)
    assert found["code"].p_holm >= found["code"].p_value


def test_group_of_one_is_undefined_and_costs_the_others_nothing() -> None:
    found = by_group([0.1, 0.9, 0.8, 0.4], [0.0, 0.2, 0.3, 0.1], ["a", "b", "b", "b"], seed=1)
    assert found["a"].difference.value is None
    assert (found["a"].p_value, found["a"].p_holm) == (None, None)
    assert found["b"].p_holm == found["b"].p_value


def test_holm_agrees_with_the_worked_example() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(corrected) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_t_figures_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/√3; t with 2 degrees of freedom is 4.302653 at 97.5 %.
    found = t_difference([2, 4, 6], [1, 2, 3])
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    # For 2 degrees of freedom P(|T| > t) = 1 − t / √(2 + t²), and t is 2√3: 1 − √(12/14).
    assert t_test([2, 4, 6], [1, 2, 3]) == pytest.approx(1 - (12 / 14) ** 0.5)


def test_bootstrap_of_two_pairs_by_hand() -> None:
    """Two pairs resample to 0, ½ and 1 with probability ¼, ½ and ¼: the interval is the whole range."""
    means = bootstrap_means(np.array([0.0, 1.0]), seed=0, resamples=20_000)
    assert [float((means == value).mean()) for value in (0.0, 0.5, 1.0)] == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    found = paired_difference([1, 2], [1, 1], seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_holm_with_equal_p_values_and_one() -> None:
    assert holm({"a": 0.02, "b": 0.02, "c": 0.02}) == pytest.approx(dict.fromkeys("abc", 0.06))
    assert holm({"a": 0.04}) == {"a": 0.04}
    # 0.01 · 3, then 0.02 · 2 stays above it, then 0.03 · 1 may not fall below: 0.04.
    assert holm({"a": 0.03, "b": 0.01, "c": 0.02}) == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})
