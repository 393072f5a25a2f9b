from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.routers import (
    CANDIDATES,
    RouterParams,
    choose_cost_weight,
    cost_weights,
    cross_validate,
    fit_first_stage,
    fit_platt,
    prepare,
    select,
    train,
    with_cost_weight,
)
from classifiers.trees import TreeParams
from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix

FAST = RouterParams(kind="average", encoder=EncoderParams(lsa_dimensions=8))
STACKED = replace(FAST, kind="stacked", trees=TreeParams(rounds=10, leaves=4, depth=2, min_leaf=5))
N = 80


def matrix(n: int = N, *, missing: float = 0.0, chars: float = float("nan")) -> OutcomeMatrix:
    """Half of the prompts are maths, where only the dear model scores; of CSS the cheap one knows as much."""
    rng = np.random.default_rng(0)
    hard = np.arange(n) % 2 == 1
    prompts = tuple(f"{'prove theorem' if h else 'centre box'} number {i}" for i, h in enumerate(hard))
    scores = np.column_stack([np.where(hard, 0.1, 0.9), np.full(n, 0.8)]) + rng.normal(0, 0.02, (n, 2))
    lost = rng.random(n) < missing
    scores[lost, rng.integers(0, 2, n)[lost]] = np.nan  # one of the two: a prompt that nobody answered is in no table
    ids, domains = tuple(f"p{i}" for i in range(n)), tuple(np.where(hard, "maths", "css").tolist())
    lengths = np.where(np.isnan(scores), np.nan, chars)
    return OutcomeMatrix(ids, prompts, domains, ("cheap", "dear"), scores, np.full((n, 2), np.nan), lengths)


def test_weights_at_which_choices_change_by_hand() -> None:
    # The dear model gains 0.4 for 2 USD more, and 0.1 for 1: λ = 0.2 and 0.1; beyond twice the greatest nothing changes.
    predictions, costs = np.array([[0.2, 0.6], [0.5, 0.6]]), np.array([[1.0, 3.0], [1.0, 2.0]])
    assert cost_weights(predictions, costs, points=2) == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert cost_weights(predictions, costs, points=3) == pytest.approx([0.0, 0.1, 0.15, 0.2, 0.4])


@pytest.mark.parametrize(
    ("predictions", "costs"),
    [
        ([[0.2, 0.6]], [[1.0, 1.0]]),  # same cost: λ decides nothing
        ([[0.6, 0.2]], [[1.0, 3.0]]),  # cheaper and better: always chosen
        ([[0.5]], [[1.0]]),
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ],
)
def test_where_the_weight_decides_nothing_it_is_zero(predictions: object, costs: object) -> None:
    assert cost_weights(np.array(predictions), np.array(costs)).tolist() == [0.0]


# Three prompts with predicted gains of 0.5, 0.2 and 0.1 for one more USD; the dear model is really better at the first two only.
PREDICTIONS = np.array([[0.4, 0.9], [0.4, 0.6], [0.4, 0.5]])
SCORES = np.array([[0.0, 1.0], [0.5, 0.6], [0.7, 0.6]])
COSTS = np.array([[1.0, 2.0]] * 3)


@pytest.mark.parametrize(
    ("tolerance", "choices"),
    [
        (0.0, [1, 1, 0]),  # the best: (1 + 0.6 + 0.7) / 3
        (0.04, [1, 0, 0]),  # 0.1 / 3 less, and cheaper
        (0.5, [0, 0, 0]),
    ],
)
def test_largest_weight_within_the_tolerance_is_chosen(tolerance: float, choices: list[int]) -> None:
    weight = choose_cost_weight(PREDICTIONS, SCORES, COSTS, tolerance=tolerance)
    assert (PREDICTIONS - weight * COSTS).argmax(axis=1).tolist() == choices


def test_prompts_that_a_model_did_not_answer_do_not_choose_the_weight() -> None:
    scores = np.vstack([SCORES, [[np.nan, 1.0]]])
    predictions, costs = np.vstack([PREDICTIONS, [[0.0, 9.0]]]), np.vstack([COSTS, [[1.0, 2.0]]])
    assert choose_cost_weight(predictions, scores, costs) == choose_cost_weight(PREDICTIONS, SCORES, COSTS)


def test_calibration_maps_predictions_to_the_shares_that_they_stand_for() -> None:
    # Said 0.6 where half succeed and 0.9 where nine in ten do: only the first is moved.
    raw = np.repeat([[0.6], [0.9]], 200, axis=0)
    scores = np.concatenate([np.arange(200) % 2, np.arange(200) % 10 > 0]).astype(float)[:, None]
    fitted = fit_platt(raw, scores)
    assert fitted(np.array([[0.6], [0.9]]))[:, 0] == pytest.approx([0.5, 0.9], abs=0.02)


def test_calibration_of_graded_scores_and_of_ones_that_are_missing() -> None:
    raw = np.repeat([[0.3], [0.7]], 100, axis=0)
    scores = np.repeat([[0.2], [0.6]], 100, axis=0)
    scores[::3] = np.nan
    assert fit_platt(raw, scores)(np.array([[0.3], [0.7]]))[:, 0] == pytest.approx([0.2, 0.6], abs=0.02)


def test_calibration_never_turns_the_ranking_round() -> None:
    raw = np.linspace(0.1, 0.9, 100)[:, None]
    fitted = fit_platt(raw, 1.0 - raw)
    assert fitted.slope[0] == 0.05
    assert np.all(np.diff(fitted(raw)[:, 0]) > 0)


def test_calibration_of_one_score_is_that_score() -> None:
    fitted = fit_platt(np.array([[0.2], [0.9]]), np.array([[0.5], [0.5]]))
    assert fitted(np.array([[0.2], [0.5], [0.9]]))[:, 0] == pytest.approx([0.5] * 3, abs=0.06)


def test_prior_of_a_domain_is_shrunk_by_ten_imagined_prompts() -> None:
    table = matrix()
    table = replace(table, scores=np.column_stack([np.where(np.arange(N) % 2, 0.0, 1.0), np.full(N, 0.5)]))
    priors = fit_first_stage(table, FAST).priors
    # css: (40 · 1 + 10 · 0.5) / 50; maths: (40 · 0 + 10 · 0.5) / 50.
    assert priors == pytest.approx(np.array([[0.9, 0.5], [0.1, 0.5]]))


def test_one_domain_has_the_overall_means_for_prior() -> None:
    table = replace(matrix(), domains=("chat",) * N)
    stage = fit_first_stage(table, FAST)
    assert stage.priors == pytest.approx(np.nanmean(table.scores, axis=0)[None, :])
    assert stage.features("anything")[:2] == pytest.approx(np.nanmean(table.scores, axis=0))


@pytest.mark.parametrize("params", [FAST, STACKED], ids=["average", "stacked"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_router_learns_which_model_is_better_where(params: RouterParams, missing: float) -> None:
    router, calibrated = train(prepare(matrix(missing=missing), params, folds=3), params)
    box, theorem = router.predict(["centre box number 7", "prove theorem number 8"])
    assert box[0] > theorem[0] + 0.3
    assert theorem[1] > theorem[0] + 0.3
    assert calibrated.shape == (N, 2)
    assert np.isfinite(calibrated).all()
    assert (router.trees is None) == (params.kind == "average")
    assert router.cost_weight == 0.0
    assert with_cost_weight(router, 3.0).cost_weight == 3.0


def test_lengths_are_learned_where_they_are_known() -> None:
    known = prepare(matrix(chars=400.0), FAST, folds=3)
    assert known.lengths is not None
    assert known.output_tokens == pytest.approx(np.full((N, 2), 100.0))  # four characters a token
    unknown = prepare(matrix(), FAST, folds=3)
    assert unknown.lengths is None
    assert unknown.output_tokens == pytest.approx(np.full((N, 2), 250.0))  # the catalogue's typical length


def test_candidate_of_least_error_between_models_is_kept() -> None:
    found = select(matrix(), {"average": FAST, "stacked": STACKED}, folds=3)
    assert set(found.errors) == {"average", "stacked"}
    assert found.name == min(found.errors, key=found.errors.__getitem__)
    gaps = np.diff(found.predictions - matrix().scores, axis=1)
    assert found.errors[found.name] == pytest.approx(float((gaps**2).mean()))
    assert math.sqrt(found.errors[found.name]) == pytest.approx(found.router.spread)


def test_nested_cross_validation_predicts_every_prompt() -> None:
    found = cross_validate(matrix(), {"average": FAST}, folds=2)
    assert found.shape == (N, 2)
    assert (found[:, 1] > found[:, 0]).mean() == pytest.approx(0.5, abs=0.15)


def test_too_little_to_learn_from_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 20 prompts to learn from, got 19"):
        prepare(matrix(19), FAST, folds=5)
    one = matrix()
    alone = OutcomeMatrix(
        one.prompt_ids,
        one.prompts,
        one.domains,
        ("cheap",),
        one.scores[:, :1],
        one.costs_usd[:, :1],
        one.output_chars[:, :1],
    )
    with pytest.raises(InvalidInput, match="at least two models to choose from, got only cheap"):
        prepare(alone, FAST, folds=5)


def test_shipped_candidates_share_what_reads_text() -> None:
    assert len({(params.encoder, params.strength, params.domain_strength) for params in CANDIDATES.values()}) == 1


def test_model_that_answered_next_to_nothing_is_refused() -> None:
    table = matrix()
    scores = table.scores.copy()
    scores[9:, 0] = np.nan
    with pytest.raises(
        InvalidInput, match="'cheap' answered 9 of 80 prompts; a router needs at least 10 of each model"
    ):
        prepare(replace(table, scores=scores), FAST, folds=5)
