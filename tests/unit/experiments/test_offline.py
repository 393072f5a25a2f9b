from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from experiments.offline import replay
from modelyard.catalog import BaseModel, Price
from modelyard.errors import InvalidInput, UnknownModel
from modelyard.outcomes import OutcomeMatrix
from modelyard.routing import CheapestPolicy, LearnedPolicy, RulesPolicy, StaticPolicy
from modelyard.tasks import RuleClassifier
from modelyard.types import Message, Route, Task
from tests.unit.routing.toy import router

MODELS = tuple(BaseModel(name, "recorded", Price(request=price)) for name, price in (("small", 0.001), ("big", 0.01)))
PROMPTS = ("one", "two", "three")
SCORES = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
COSTS = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])


def matrix(models: tuple[str, ...] = ("small", "big")) -> OutcomeMatrix:
    ids, unknown = tuple(f"p{i}" for i in range(3)), np.full((3, 2), np.nan)
    return OutcomeMatrix(ids, PROMPTS, ("chat",) * 3, models, SCORES, unknown, unknown)


class ByPrompt:
    """Takes the big model for the prompt `two`, and remembers what it was shown."""

    name = version = "by-prompt"

    def __init__(self) -> None:
        self.seen: list[tuple[Message, Task]] = []

    def route(
        self, message: Message, task: Task, candidates: Sequence[BaseModel], *, cost_weight: float | None = None
    ) -> Route:
        assert candidates is MODELS
        assert cost_weight is None  # the policy's own, as in serving
        self.seen.append((message, task))
        return Route("big" if message.prompt == "two" else "small", (), self.name, ())


def test_chosen_models_scores_and_costs_are_looked_up_prompt_by_prompt() -> None:
    found = replay(ByPrompt(), RuleClassifier(), matrix(), MODELS, COSTS)
    assert found.name == "by-prompt"
    assert found.chosen.tolist() == [0, 1, 0]
    assert found.scores.tolist() == [0.1, 0.8, 0.3]
    assert found.costs.tolist() == [1.0, 6.0, 3.0]


def test_policy_is_shown_the_text_and_the_task_and_nothing_else_of_the_row() -> None:
    policy, classifier = ByPrompt(), RuleClassifier()
    replay(policy, classifier, matrix(), MODELS, COSTS)
    expected = [Message.of(text) for text in PROMPTS]
    assert [replace(message, id="") for message, _ in policy.seen] == [replace(message, id="") for message in expected]
    assert [task for _, task in policy.seen] == [classifier.classify(message) for message in expected]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (StaticPolicy("big"), [1, 1, 1]),
        (CheapestPolicy(), [0, 0, 0]),
        (LearnedPolicy(router({"small": 0.5, "big": 0.7})), [1, 1, 1]),
        (LearnedPolicy(router({"small": 0.5, "big": 0.7}, cost_weight=100.0)), [0, 0, 0]),  # 0.2 of score for 0.009 USD
    ],
    ids=["static", "cheapest", "score", "cost"],
)
def test_policies_of_serving_are_replayed_as_they_are(policy: StaticPolicy, chosen: list[int]) -> None:
    assert replay(policy, RuleClassifier(), matrix(), MODELS, COSTS).chosen.tolist() == chosen


def test_no_prompt_gives_empty_arrays() -> None:
    found = replay(CheapestPolicy(), RuleClassifier(), matrix().take([]), MODELS, COSTS[:0])
    assert (found.chosen.shape, found.scores.shape, found.costs.shape) == ((0,), (0,), (0,))


def test_candidates_must_be_the_matrixs_models_in_their_order() -> None:
    with pytest.raises(InvalidInput, match="candidates small, big are not the outcome matrix's models big, small"):
        replay(RulesPolicy(), RuleClassifier(), matrix(("big", "small")), MODELS, COSTS)


def test_policy_that_knows_none_of_the_models_says_so() -> None:
    with pytest.raises(UnknownModel, match="'nobody' is not among the candidates small, big"):
        replay(StaticPolicy("nobody"), RuleClassifier(), matrix(), MODELS, COSTS)
