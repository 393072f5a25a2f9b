from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from classifiers.encoding import EncoderParams
from classifiers.selection import TaskSelection, combine, estimate, select
from classifiers.tasks import OutOfFold, TaskParams
from classifiers.trees import TreeParams
from modelyard.predictors import read_artifact, write_artifact
from modelyard.tasks import LearnedClassifier
from modelyard.tasks.learned import KIND
from modelyard.types import Message
from tests.unit.tasks.prompts import LABELS, TEXTS

ENCODER = EncoderParams(lsa_dimensions=6)
CANDIDATES = {
    "logistic": TaskParams(encoder=ENCODER),
    "trees": TaskParams(
        kind="trees",
        encoder=ENCODER,
        trees=TreeParams(rounds=8, learning_rate=0.2, leaves=4, depth=3, min_leaf=5, columns=1.0),
    ),
}


class Meanings:
    """A sentence encoder that knows which of the two subjects a text is about, and counts what it is asked."""

    fingerprint = "meanings:1"

    def __init__(self) -> None:
        self.asked = 0

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += len(texts)
        css = ("div", "grid", "flexbox", "header", "modal")
        about = [any(word in text for word in css) for text in texts]
        return np.array([[1.0, 0.0] if yes else [0.0, 1.0] for yes in about], np.float32)


@pytest.fixture(scope="module")
def selection() -> TaskSelection:
    return select(TEXTS, LABELS, CANDIDATES, folds=2, sentences=Meanings())


def out_of_fold(probabilities: Sequence[Sequence[float]], labels: Sequence[int]) -> OutOfFold:
    return OutOfFold(("a", "b"), np.array(labels), np.array(probabilities), 1.0)


def test_every_head_gets_the_candidate_of_least_log_loss(selection: TaskSelection) -> None:
    for head in LABELS:
        least = min(CANDIDATES, key=lambda name: selection.estimates[name][head].log_loss)
        assert selection.chosen[head] == least
        assert selection.recipe.first[head] == CANDIDATES[least]


def test_heads_share_the_encoder_that_is_best_for_them_together() -> None:
    blind = replace(CANDIDATES["logistic"], encoder=EncoderParams(lsa_dimensions=2, max_terms=3, keyword_weight=1e-6))
    found = select(TEXTS, LABELS, {"blind": blind, **CANDIDATES}, folds=2)

    assert "blind" not in found.chosen.values()


def test_second_look_is_taken_only_where_words_are_unsure(selection: TaskSelection) -> None:
    sentences, trained, texts = Meanings(), selection.classifier, [*TEXTS, "zzz", ""]
    assert trained.second is not None
    confidence = trained.heads["domain"].many(trained.encoder.many(texts)).max(axis=1)
    below = float(np.quantile(confidence, 0.5)) + 1e-6
    second = replace(trained.second, below=below)
    classifier = LearnedClassifier(trained.encoder, trained.heads, second=second, sentences=sentences)

    for text in texts:
        classifier.classify(Message.of(text))

    assert 0 < int((confidence < below).sum()) == sentences.asked


def test_one_text_is_read_as_in_a_table_with_a_second_look(selection: TaskSelection) -> None:
    texts = [*TEXTS[::9], "zzz", ""]
    table = selection.classifier.many(texts)
    for row, text in enumerate(texts):
        for head, found in selection.classifier.probabilities(text).items():
            np.testing.assert_allclose(list(found.values()), table[head][row], atol=1e-5)


def test_second_look_survives_saving_and_needs_its_own_encoder(selection: TaskSelection, tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", KIND, selection.classifier.state(), {})
    artifact = read_artifact(tmp_path / "model", KIND)
    text = "how about the div"

    rebuilt = LearnedClassifier.from_artifact(artifact, "classifier-1", Meanings())
    alone = LearnedClassifier.from_artifact(artifact, "classifier-1")
    stranger = Meanings()
    stranger.fingerprint = "meanings:2"
    misfit = LearnedClassifier.from_artifact(artifact, "classifier-1", stranger)

    for head, found in selection.classifier.probabilities(text).items():
        assert rebuilt.probabilities(text)[head] == pytest.approx(found, abs=1e-6)
    assert not rebuilt.reads_words_alone
    assert alone.reads_words_alone
    assert misfit.reads_words_alone
    assert misfit.probabilities(text) == alone.probabilities(text)
    assert stranger.asked == 0


def test_combining_takes_the_second_look_where_the_first_head_is_unsure() -> None:
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    first = {"domain": out_of_fold([sure, unsure], [0, 1]), "complexity": out_of_fold([[0.5, 0.5]] * 2, [0, 1])}
    second = {"domain": out_of_fold([[0.2, 0.8]] * 2, [0, 1]), "complexity": out_of_fold([[0.1, 0.9]] * 2, [0, 1])}

    found = combine(first, second, below=0.8)

    np.testing.assert_array_equal(found["domain"].probabilities, [sure, [0.2, 0.8]])
    np.testing.assert_array_equal(found["complexity"].probabilities, [[0.5, 0.5], [0.1, 0.9]])
    assert combine(first, {}, below=0.8) == first


def test_estimate_repeats_what_selection_saw(selection: TaskSelection) -> None:
    again = estimate(TEXTS, LABELS, selection.recipe, folds=2, sentences=Meanings())
    for head, found in selection.out_of_fold.items():
        np.testing.assert_allclose(again[head].probabilities, found.probabilities, atol=1e-6)
