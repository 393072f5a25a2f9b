"""A classifier says what the straightforward computation from its saved form says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from classifiers.encoding import EncoderParams
from classifiers.tasks import TaskParams, cross_validate, train
from classifiers.trees import TreeParams
from modelyard.tasks import LearnedClassifier
from tests.unit.tasks import reference
from tests.unit.tasks.odd_texts import ODD
from tests.unit.tasks.prompts import LABELS, TEXTS

ENCODERS = {
    "words": EncoderParams(lsa_dimensions=6),
    "characters": EncoderParams(chars=(2, 5), min_df=1, lsa_dimensions=12),
}


@cache
def learned(kind: str, encoder: str) -> LearnedClassifier:
    trees = TreeParams(rounds=8, learning_rate=0.2, leaves=6, depth=4, min_leaf=4, columns=1.0)
    params = TaskParams(kind=kind, encoder=ENCODERS[encoder], trees=trees)  # type: ignore[arg-type]
    return train(TEXTS, params, cross_validate(TEXTS, LABELS, params, folds=2))


@pytest.mark.parametrize("kind", ["linear", "trees", "blend"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_probabilities_are_those_of_the_straightforward_computation(kind: str, encoder: str) -> None:
    classifier = learned(kind, encoder)
    state = classifier.state()
    for text in [*ODD, *TEXTS[::9]]:
        found, expected = classifier.probabilities(text), reference.probabilities(text, state)
        assert list(found) == list(expected)
        for head, shares in found.items():
            # Text vectors are float32: a sum over their terms is rounded otherwise in another order.
            np.testing.assert_allclose(list(shares.values()), expected[head], rtol=0, atol=1e-6)
