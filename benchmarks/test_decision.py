"""How long a decision takes: `pytest benchmarks/test_decision.py --benchmark-enable`.

`test_whole_decision` takes a prompt that nothing remembers each time: no two rounds read the same text. `MODELYARD_HOME` with champions, as
`make demo` leaves them, is measured instead of the small models made here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.routers import RouterParams, prepare
from classifiers.routers import train as train_router
from classifiers.tasks import TaskParams, cross_validate, train
from eval_sets import load_tasks
from modelyard.catalog import BaseModel, Price
from modelyard.outcomes import OutcomeMatrix
from modelyard.registry.champions import load_champion
from modelyard.routing import LearnedPolicy, RouterModel
from modelyard.settings import current
from modelyard.tasks import Classifier, LearnedClassifier, RuleClassifier
from modelyard.types import Message
from pipelines.train_classifier import WEB_TASKS
from tests.unit.routing.toy import MODELS, router, task
from tests.unit.tasks.prompts import LABELS, TEXTS

MESSAGE = Message.of(
    "my useEffect fetches in an endless loop when I pass an object as dependency, how do i fix that? it also runs twice in dev"
)
LENGTHS = {"short": 60, "long": 500}  # characters


def learned() -> LearnedClassifier:
    params = TaskParams(kind="blend", encoder=EncoderParams(chars=(2, 5)))
    return train(TEXTS, params, cross_validate(TEXTS, LABELS, params, folds=2))


@cache
def served() -> tuple[LearnedClassifier, LearnedPolicy]:
    """The champions of this home, else models as large as `make demo` makes them; they read words alone."""
    settings = current()
    champion, chosen = load_champion("classifier", settings), load_champion("router", settings)
    if champion is not None and chosen is not None:
        artifacts = champion.artifact, chosen.artifact
        return LearnedClassifier.from_artifact(artifacts[0], "champion"), LearnedPolicy(
            RouterModel.from_artifact(artifacts[1])
        )
    rows = load_tasks(WEB_TASKS).rows
    texts, labels = [row.prompt for row in rows], {"domain": [row.domain for row in rows]}
    params, shape = TaskParams(kind="blend", encoder=EncoderParams(chars=(2, 5))), (len(rows), 2)
    scores = np.random.default_rng(0).random(shape)
    matrix = OutcomeMatrix(
        tuple(row.id for row in rows),
        tuple(texts),
        tuple(labels["domain"]),
        ("cheap", "dear"),
        scores,
        scores,
        500 * scores,
    )
    model, _ = train_router(prepare(matrix, RouterParams(), folds=2), RouterParams())
    return train(texts, params, cross_validate(texts, labels, params, folds=2)), LearnedPolicy(model)


def prompts(chars: int) -> Iterator[str]:
    """Distinct prompts of that length, cut from questions of the eval set in random order."""
    questions, source = [row.prompt for row in load_tasks(WEB_TASKS).rows], random.Random(0)
    for number in count():
        text = " ".join(source.sample(questions, 12))
        yield f"{number} {text}"[:chars]


@pytest.mark.parametrize("make", [RuleClassifier, learned], ids=["rules", "learned"])
def test_classification(benchmark: Any, make: Any) -> None:
    classifier: Classifier = make()
    assert benchmark(classifier.classify, MESSAGE).domains


def test_routing_decision(benchmark: Any) -> None:
    assert benchmark(LearnedPolicy(router()).route, MESSAGE, task(), MODELS).model == "dear"


@pytest.mark.parametrize("length", LENGTHS)
def test_whole_decision(benchmark: Any, length: str) -> None:
    classifier, policy = served()
    models = [BaseModel(name, "recorded", Price(request=0.01)) for name in policy.model.models]
    texts = prompts(LENGTHS[length])

    def decide(message: Message) -> str:
        return policy.route(message, classifier.classify(message), models).model

    for _ in range(2_000):  # a server has met most words before
        decide(Message.of(next(texts)))
    rounds = 2_000 if benchmark.enabled else 1
    assert (
        benchmark.pedantic(decide, setup=lambda: ((Message.of(next(texts)),), {}), rounds=rounds) in policy.model.models
    )
