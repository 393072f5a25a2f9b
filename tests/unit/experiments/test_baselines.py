from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.routers import RouterParams
from experiments.baselines import domain_prior, prompt_length
from modelyard.outcomes import OutcomeMatrix

LENGTHS = (1, 3, 7, 15)  # ln(1 + length) is 1, 2, 3, 4 times ln 2


def matrix(prompts: tuple[str, ...], scores: np.ndarray, domains: tuple[str, ...]) -> OutcomeMatrix:
    unknown = np.full(scores.shape, np.nan)
    ids = tuple(f"p{i}" for i in range(len(prompts)))
    return OutcomeMatrix(ids, prompts, domains, ("a", "b")[: scores.shape[1]], scores, unknown, unknown)


def test_line_through_the_logarithm_of_the_length() -> None:
    prompts = tuple("x" * length for length in LENGTHS)
    scores = np.array([[0.1, 0.9], [0.2, 0.7], [0.3, 0.5], [0.4, np.nan]])
    found = prompt_length(matrix(prompts, scores, ("chat",) * 4), ["x" * 31, "x" * 3])
    assert found == pytest.approx(np.array([[0.5, 0.1], [0.2, 0.7]]))


def test_prompts_of_one_length_give_the_mean() -> None:
    found = prompt_length(
        matrix(("abc", "xyz"), np.array([[0.2, 1.0], [0.4, 0.0]]), ("chat",) * 2), ["something longer"]
    )
    assert found == pytest.approx(np.array([[0.3, 0.5]]))


def test_prior_of_the_predicted_domain_is_shrunk_to_the_overall_mean() -> None:
    prompts = tuple(f"centre box {i}" if i < 40 else f"prove theorem {i}" for i in range(80))
    scores = np.array([[1.0, 0.5]] * 40 + [[0.0, 0.5]] * 40)
    train = matrix(prompts, scores, ("css",) * 40 + ("maths",) * 40)
    params = replace(RouterParams(), encoder=EncoderParams(lsa_dimensions=4))
    box, theorem = domain_prior(train, ["centre box", "prove theorem"], params)
    # Of css the first model's mean is (40 · 1 + 10 · 0.5) / 50 = 0.9, of maths 0.1; the second one's is 0.5 everywhere.
    assert 0.7 < box[0] <= 0.9
    assert 0.1 <= theorem[0] < 0.3
    assert (box[1], theorem[1]) == pytest.approx((0.5, 0.5))
