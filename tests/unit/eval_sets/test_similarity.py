"""Near-duplicates, against the definition itself."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval_sets import Pair, near_duplicates
from eval_sets.similarity import clusters, grams
from modelyard.errors import InvalidInput


def by_definition(prompts: list[str], threshold: float) -> list[Pair]:
    sets = [grams(prompt) for prompt in prompts]
    pairs = ((i, j, len(sets[i] & sets[j]) / len(sets[i] | sets[j])) for i, j in combinations(range(len(sets)), 2))
    return [Pair(*pair) for pair in pairs if pair[2] >= threshold]


@given(st.lists(st.text("ab ", max_size=20), max_size=12), st.sampled_from([0.1, 0.5, 2 / 3, 1.0]))
def test_pairs_are_those_of_the_definition(prompts: list[str], threshold: float) -> None:
    assert list(near_duplicates(prompts, threshold)) == by_definition(prompts, threshold)


def test_case_and_white_space_do_not_count() -> None:
    assert near_duplicates(["How do I  centre\na div?", "how do i centre a DIV? "]) == (Pair(0, 1, 1.0),)


def test_pairs_further_apart_than_one_block_are_found() -> None:
    words = random.Random(3)
    prompts = [" ".join(f"{words.randrange(10**9):x}" for _ in range(5)) for _ in range(1_200)]
    prompts[1_199] = prompts[0] + "!"
    assert [(pair.first, pair.second) for pair in near_duplicates(prompts)] == [(0, 1_199)]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="threshold"):
        near_duplicates(["a"], threshold)


def test_clusters_follow_chains_of_pairs() -> None:
    assert clusters(5, [Pair(3, 4, 1.0), Pair(0, 2, 1.0), Pair(2, 4, 1.0)]) == ((0, 2, 3, 4), (1,))
