"""Splits: nothing lost, nothing near on both sides, the same mix everywhere."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from eval_sets import COMPLEXITIES, TaskRow, near_duplicates, split
from modelyard.errors import InvalidEvalSet, InvalidInput


def rows(domains: int = 6, each: int = 12) -> list[TaskRow]:
    letters = random.Random(7)

    def text() -> str:
        return "".join(letters.choices("abcdefghijklmnopqrstuvwxyz ", k=60))

    return [
        TaskRow(f"{d}-{complexity}-{k}", text(), f"domain-{d}", complexity)
        for d in range(domains)
        for complexity in COMPLEXITIES
        for k in range(each)
    ]


def test_every_row_is_in_one_part_and_in_order() -> None:
    given = rows()
    parts = split(given, {"train": 0.8, "test": 0.2}, seed=1)
    assert sorted(row.id for part in parts.values() for row in part) == sorted(row.id for row in given)
    places = {row.id: place for place, row in enumerate(given)}
    assert all([places[row.id] for row in part] == sorted(places[row.id] for row in part) for part in parts.values())


def test_shares_hold_in_all_and_in_each_stratum() -> None:
    parts = split(rows(), {"train": 0.8, "test": 0.2}, seed=1)
    assert len(parts["test"]) in {43, 44}
    strata = Counter((row.domain, row.complexity) for row in parts["test"])
    assert set(strata.values()) == {2, 3}
    assert len(strata) == 18


def test_near_duplicates_stay_on_one_side() -> None:
    given = rows()
    copies = [TaskRow(f"copy-{row.id}", row.prompt + "?", row.domain, row.complexity) for row in given[::3]]
    parts = split([*given, *copies], {"a": 0.5, "b": 0.5}, seed=4)
    both = [*parts["a"], *parts["b"]]
    border = len(parts["a"])
    assert copies
    assert all(
        (pair.first < border) == (pair.second < border) for pair in near_duplicates([row.prompt for row in both])
    )
    assert abs(len(parts["a"]) - len(parts["b"])) <= 4


def test_seed_decides() -> None:
    shares = {"a": 0.5, "b": 0.5}
    assert split(rows(), shares, seed=1) == split(rows(), shares, seed=1) != split(rows(), shares, seed=2)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": float("nan"), "b": 1.0}])
def test_shares_that_do_not_sum_to_one_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="shares of a split"):
        split(rows(), shares, seed=1)


def test_fewer_rows_than_parts_are_refused() -> None:
    with pytest.raises(InvalidEvalSet, match="Cannot split 1 prompts into 2 parts"):
        split(rows()[:1], {"a": 0.5, "b": 0.5}, seed=1)
