from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.tasks import TaskParams, cross_validate, train
from classifiers.trees import TreeParams
from modelyard.errors import CorruptModel
from modelyard.predictors import read_artifact, write_artifact
from modelyard.tasks import LearnedClassifier
from modelyard.tasks.learned import KIND
from modelyard.types import Message
from tests.unit.tasks.prompts import LABELS, TEXTS

UNSEEN = ["", "☂", "make the grid sticky", "Why does fetch fail?\n```js\nfetch('/api')\n```", "x" * 20_000]
TREES = TreeParams(rounds=8, learning_rate=0.2, leaves=4, depth=3, min_leaf=5, columns=1.0)


@cache
def learned(kind: str, heads: tuple[str, ...] = ("domain", "complexity")) -> LearnedClassifier:
    params = TaskParams(kind=kind, encoder=EncoderParams(lsa_dimensions=6), trees=TREES)  # type: ignore[arg-type]
    labels = {name: LABELS[name] for name in heads}
    return train(TEXTS, params, cross_validate(TEXTS, labels, params, folds=2))


@pytest.fixture(params=["linear", "trees", "blend"])
def classifier(request: pytest.FixtureRequest) -> LearnedClassifier:
    return learned(request.param)


def test_classifier_learns_what_it_was_shown(classifier: LearnedClassifier) -> None:
    said = [classifier.classify(Message.of(text)).domain for text in TEXTS]

    assert np.mean([one == other for one, other in zip(said, LABELS["domain"], strict=True)]) > 0.9


@pytest.mark.parametrize("text", UNSEEN, ids=["empty", "sign", "css", "code", "long"])
def test_probabilities_sum_to_one_and_the_likeliest_class_is_named(classifier: LearnedClassifier, text: str) -> None:
    task = classifier.classify(Message.of(text))

    for chosen, shares in ((task.domain, task.domains), (task.complexity, task.complexities)):
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) >= 0.0
        assert shares[chosen] == max(shares.values())
    assert task.confidence == task.domains[task.domain]
    assert task.tokens >= 1
    assert len(task.reasons) == 2


def test_one_text_is_read_as_in_a_table(classifier: LearnedClassifier) -> None:
    texts = [*TEXTS[::7], *UNSEEN]
    encoded = classifier.encoder.many(texts)
    for head in classifier.heads.values():
        one_by_one = np.stack([head.one(*classifier.encoder.one(text)) for text in texts])
        np.testing.assert_allclose(one_by_one, head.many(encoded), atol=1e-5)


def test_saved_classifier_predicts_the_same(classifier: LearnedClassifier, tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", KIND, classifier.state())
    rebuilt = LearnedClassifier.from_artifact(read_artifact(tmp_path / "model", KIND), "classifier-7")

    assert rebuilt.version == "classifier-7"
    for text in [*TEXTS[::5], *UNSEEN]:
        assert rebuilt.probabilities(text) == classifier.probabilities(text)


def test_training_again_gives_the_same_classifier() -> None:
    again = learned.__wrapped__("blend")

    assert [again.probabilities(text) for text in UNSEEN] == [learned("blend").probabilities(text) for text in UNSEEN]


def test_question_without_a_head_is_answered_by_the_rules() -> None:
    task = learned("linear", ("domain",)).classify(Message.of("make the grid sticky"))

    assert task.domain == "css"
    assert set(task.complexities) != {"complex", "simple"}
    assert sum(task.complexities.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("gone", ["encoder", "heads"])
def test_saved_classifier_that_lacks_a_part_is_corrupt(tmp_path: Path, gone: str) -> None:
    facts, arrays = learned("linear").state()
    write_artifact(tmp_path / "model", KIND, ({name: fact for name, fact in facts.items() if name != gone}, arrays))

    with pytest.raises(CorruptModel, match="classifier-7 lacks a part"):
        LearnedClassifier.from_artifact(read_artifact(tmp_path / "model", KIND), "classifier-7")
