"""A learned policy predicts what the straightforward computation from the router's saved form predicts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.routers import RouterParams, prepare, train
from classifiers.trees import TreeParams
from modelyard.outcomes import OutcomeMatrix
from modelyard.routing import LearnedPolicy, RouterModel
from modelyard.types import Message
from tests.unit.routing import reference
from tests.unit.routing.toy import MODELS, router, task
from tests.unit.tasks.odd_texts import ODD
from tests.unit.tasks.prompts import LABELS, TEXTS


def matrix(*, lengths: bool) -> OutcomeMatrix:
    """Every model answers most prompts, the last one fewer."""
    rng = np.random.default_rng(3)
    shape = (len(TEXTS), len(MODELS))
    scores = np.clip(rng.normal([0.3, 0.5, 0.7], 0.3, shape), 0.0, 1.0)
    scores[rng.random(shape) < [0.1, 0.2, 0.4]] = np.nan
    scores[np.isnan(scores).all(axis=1), 0] = 0.5
    chars = np.where(np.isnan(scores) | (not lengths), np.nan, np.rint(rng.lognormal(5.0, 1.0, shape)))
    ids, names = tuple(f"p{i}" for i in range(len(TEXTS))), tuple(model.name for model in MODELS)
    return OutcomeMatrix(ids, tuple(TEXTS), tuple(LABELS["domain"]), names, scores, np.full(shape, np.nan), chars)


@cache
def learned(kind: str, lengths: bool) -> RouterModel:
    trees = TreeParams(rounds=12, learning_rate=0.1, leaves=7, depth=4, min_leaf=4)
    params = RouterParams(kind=kind, encoder=EncoderParams(lsa_dimensions=8), trees=trees)  # type: ignore[arg-type]
    return train(prepare(matrix(lengths=lengths), params, folds=2), params)[0]


@pytest.mark.parametrize("lengths", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize("kind", ["stacked", "average"])
def test_forecasts_are_those_of_the_straightforward_computation(kind: str, lengths: bool) -> None:
    model = learned(kind, lengths)
    state = model.state()
    assert ("trees" in state[0], "lengths" in state[0]) == (kind == "stacked", lengths)
    texts = [*ODD, *TEXTS[::9]]
    together = model.forecast(texts)
    for row, text in enumerate(texts):
        scores, tokens = reference.forecast(text, state)
        alone = model.forecast_one(text)
        for found in (alone, (together.scores[row], together.output_tokens[row])):
            np.testing.assert_allclose(found[0], scores, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found[1], tokens, rtol=1e-9)


def test_route_shows_what_was_forecast() -> None:
    model = learned("stacked", True)
    forecast = model.forecast([TEXTS[0]])
    route = LearnedPolicy(model).route(Message.of(TEXTS[0]), task(), MODELS)

    assert [candidate.quality for candidate in route.candidates] == pytest.approx(forecast.scores[0].tolist())
    costs = [model.price.cost(6, tokens) for model, tokens in zip(MODELS, forecast.output_tokens[0], strict=True)]
    assert [candidate.cost_usd for candidate in route.candidates] == pytest.approx(costs)


def test_model_that_no_neighbour_was_asked_about_gets_its_prior() -> None:
    memory = replace(router().first.memory)

    np.testing.assert_array_equal(memory.recall(memory.embeddings[0], np.array([0.1, 0.2, 0.3])), [0.1, 0.2, 0.3])
