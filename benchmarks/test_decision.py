"""How long a decision takes: `pytest benchmarks/test_decision.py --benchmark-enable`."""

from __future__ import annotations

from typing import Any

import pytest

from classifiers.encoding import EncoderParams
from classifiers.tasks import TaskParams, cross_validate, train
from modelyard.routing import LearnedPolicy
from modelyard.tasks import Classifier, LearnedClassifier, RuleClassifier
from modelyard.types import Message
from tests.unit.routing.toy import MODELS, router, task
from tests.unit.tasks.prompts import LABELS, TEXTS

MESSAGE = Message.of(
    "my useEffect fetches in an endless loop when I pass an object as dependency, how do i fix that? it also runs twice in dev"
)


def learned() -> LearnedClassifier:
    params = TaskParams(kind="blend", encoder=EncoderParams(chars=(2, 5)))
    return train(TEXTS, params, cross_validate(TEXTS, LABELS, params, folds=2))


@pytest.mark.parametrize("make", [RuleClassifier, learned], ids=["rules", "learned"])
def test_classification(benchmark: Any, make: Any) -> None:
    classifier: Classifier = make()
    assert benchmark(classifier.classify, MESSAGE).domains


def test_routing_decision(benchmark: Any) -> None:
    assert benchmark(LearnedPolicy(router()).route, MESSAGE, task(), MODELS).model == "dear"
