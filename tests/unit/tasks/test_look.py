"""Heads that are asked together say what each of them says alone."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.embedding import SparseVector
from modelyard.predictors import Linear, Trees
from modelyard.tasks.learned import Head
from modelyard.tasks.look import Look

TERMS, LSA, DENSE, SENTENCE = 30, 4, 3, 5
random = np.random.default_rng(11)


def linear(classes: int) -> Linear:
    return Linear(
        random.normal(size=(TERMS, classes)).astype(np.float32),
        random.normal(size=(DENSE, classes)),
        random.normal(size=classes),
    )


def trees(classes: int) -> Trees:
    """One split a class."""
    root = 3 * np.arange(classes, dtype=np.int32)
    left, right = np.arange(3 * classes, dtype=np.int32), np.arange(3 * classes, dtype=np.int32)
    left[root], right[root] = root + 1, root + 2
    return Trees(
        feature=random.integers(LSA + DENSE, size=3 * classes).astype(np.int32),
        threshold=random.normal(size=3 * classes),
        left=left,
        right=right,
        value=random.normal(size=3 * classes),
        roots=root,
        output=np.arange(classes, dtype=np.int32),
        base=random.normal(size=classes),
        depth=1,
    )


def head(kind: str, classes: int, *, semantic: bool) -> Head:
    return Head(
        tuple("abcdefg"[:classes]),
        linear(classes) if kind != "trees" else None,
        trees(classes) if kind != "linear" else None,
        mix=0.3,
        temperature=1.7,
        semantic=random.normal(size=(SENTENCE, classes)).astype(np.float32) if semantic else None,
    )


@pytest.mark.parametrize("semantic", [False, True], ids=["words", "semantic"])
@pytest.mark.parametrize(
    "kinds", [["linear"], ["trees"], ["blend"], ["trees", "blend", "linear"], ["linear", "trees"], ["blend", "blend"]]
)
def test_heads_say_together_what_each_says_alone(kinds: list[str], semantic: bool) -> None:
    heads = {
        f"{kind}-{number}": head(kind, 2 + number, semantic=semantic and number != 1)
        for number, kind in enumerate(kinds)
    }
    look = Look(heads)
    for terms in (0, 1, 7):
        indices = np.sort(random.choice(TERMS, terms, replace=False))
        text = (
            SparseVector(indices, random.normal(size=terms).astype(np.float32)),
            random.normal(size=LSA).astype(np.float32),
            random.normal(size=DENSE),
        )
        for sentence in (None, random.normal(size=SENTENCE).astype(np.float32)):
            found = look(*text, sentence)
            assert list(found) == list(heads)
            for name, shares in found.items():
                np.testing.assert_allclose(shares, heads[name].one(*text, sentence), rtol=0, atol=1e-6)
