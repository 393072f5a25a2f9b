from __future__ import annotations

import math

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.tasks import (
    CANDIDATES,
    CHARS_UP_TO,
    OutOfFold,
    Shared,
    TaskParams,
    candidates_for,
    cross_validate,
    fit_temperature,
    number_labels,
    train,
)
from modelyard.errors import InvalidInput
from tests.unit.tasks.prompts import LABELS, TEXTS

PARAMS = TaskParams(encoder=EncoderParams(lsa_dimensions=6))


def test_labels_are_numbered_in_alphabetical_order() -> None:
    classes, numbers = number_labels(["css", "auth", "css", "web"], "domain")
    assert classes == ("auth", "css", "web")
    assert numbers.tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(("values", "said"), [(["css", "css"], "every row says css"), ([], "every row says nothing")])
def test_one_class_is_nothing_to_learn(values: list[str], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"at least two classes of 'domain', but {said}"):
        number_labels(values, "domain")


def test_log_loss_by_hand() -> None:
    found = OutOfFold(("a", "b"), np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]]), 1.0)
    assert found.log_loss == pytest.approx((math.log(2) + math.log(4)) / 2)
    wrong = OutOfFold(("a", "b"), np.array([0]), np.array([[0.0, 1.0]]), 1.0)
    assert wrong.log_loss == pytest.approx(-math.log(1e-12))  # and not infinite


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_factor(factor: float) -> None:
    """Logits ±ln 3 and labels that hold in three of four cases are calibrated; a factor on them is the temperature to divide by."""
    logits = np.tile([math.log(3) / 2, -math.log(3) / 2], (400, 1))
    labels = np.arange(400) % 4 // 3  # one in four is the second class
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=1e-3)


def test_temperature_of_pure_noise_flattens() -> None:
    rng = np.random.default_rng(0)
    assert fit_temperature(rng.normal(0, 3, (500, 3)), rng.integers(0, 3, 500)) > 5


def test_out_of_fold_predictions_are_aligned_with_the_texts() -> None:
    found = cross_validate(TEXTS, LABELS, PARAMS, folds=4)
    assert set(found) == {"domain", "complexity"}
    domain = found["domain"]
    assert domain.classes == ("css", "data")
    assert domain.labels.tolist() == [0] * 40 + [1] * 40
    assert domain.probabilities.shape == (80, 2)
    assert domain.probabilities.sum(axis=1) == pytest.approx(np.ones(80))
    assert (domain.probabilities.argmax(axis=1) == domain.labels).mean() > 0.9


def test_text_does_not_see_its_own_label() -> None:
    """Labels that follow from nothing are predicted no better than by chance."""
    labels = {"domain": np.random.default_rng(1).choice(["a", "b"], 80).tolist()}
    found = cross_validate([f"word{i}" for i in range(80)], labels, PARAMS, folds=4)["domain"]
    assert found.log_loss > 0.6  # chance is ln 2 = 0.69


def test_same_seed_same_predictions_and_shared_encodings_change_nothing() -> None:
    alone = cross_validate(TEXTS, LABELS, PARAMS, folds=3, seed=5)["domain"].probabilities
    shared = Shared()
    for _ in range(2):
        again = cross_validate(TEXTS, LABELS, PARAMS, folds=3, seed=5, shared=shared)["domain"].probabilities
        np.testing.assert_array_equal(again, alone)
    assert set(shared.encodings) == {(PARAMS.encoder, fold) for fold in range(3)}
    other = cross_validate(TEXTS, LABELS, PARAMS, folds=3, seed=6)["domain"].probabilities
    assert not np.array_equal(other, alone)


def test_rare_classes_do_not_stop_the_folds() -> None:
    labels = {"domain": ["css"] * 40 + ["data"] * 38 + ["rare", "rarer"]}
    found = cross_validate(TEXTS, labels, PARAMS, folds=5)["domain"]
    assert found.classes == ("css", "data", "rare", "rarer")
    assert np.isfinite(found.probabilities).all()


def test_too_few_texts_for_the_folds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="with 5 folds needs at least 10 labelled prompts, got 9"):
        cross_validate(TEXTS[36:45], {"domain": LABELS["domain"][36:45]}, PARAMS, folds=5)


@pytest.mark.parametrize("kind", ["linear", "trees", "blend"])
def test_trained_classifier_serves_with_the_temperature_of_all_folds(kind: str) -> None:
    params = TaskParams(kind=kind, encoder=PARAMS.encoder)  # pyright: ignore[reportArgumentType]
    pooled = cross_validate(TEXTS, LABELS, params, folds=2)
    classifier = train(TEXTS, params, pooled)
    head = classifier.heads["domain"]
    assert head.temperature == pooled["domain"].temperature
    assert (head.linear is None, head.trees is None) == (kind == "trees", kind == "linear")
    assert classifier.probabilities("centre a div in a grid")["domain"]["css"] > 0.5


def test_many_prompts_are_read_by_words_alone() -> None:
    assert candidates_for(CHARS_UP_TO) is CANDIDATES
    many = candidates_for(CHARS_UP_TO + 1)
    assert set(many) == set(CANDIDATES)
    assert {params.encoder for params in many.values()} == {EncoderParams()}
    assert all(many[name].kind == params.kind for name, params in CANDIDATES.items())
