"""Agreement between two people, against values worked out by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from eval_sets import COMPLEXITIES, TaskRow
from eval_sets.agreement import (
    SecondLabel,
    agreement,
    agreements,
    cohens_kappa,
    load_second_labels,
    sample_for_labelling,
)
from modelyard.errors import InvalidEvalSet, InvalidInput

ROWS = [
    TaskRow(f"{domain}-{complexity}-{k}", f"{domain} {complexity} {k}", domain, complexity)
    for domain in ("css", "maths", "chat")
    for complexity in COMPLEXITIES
    for k in range(5)
]


def test_kappa_is_cohens() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)
    assert cohens_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_kappa_is_undefined_where_both_used_one_label() -> None:
    assert cohens_kappa(["a", "a"], ["a", "a"]) is None
    assert agreement(["a", "a"], ["a", "a"]).observed == 1.0


@pytest.mark.parametrize(("first", "second"), [([], []), (["a"], ["a", "b"])])
def test_kappa_needs_pairs(first: list[str], second: list[str]) -> None:
    with pytest.raises(InvalidInput, match="as many first labels"):
        cohens_kappa(first, second)


def test_interval_holds_the_value() -> None:
    found = agreement(["a", "b"] * 20, ["a", "b"] * 15 + ["b", "a"] * 5)
    assert found.kappa is not None
    assert found.ci95 is not None
    assert found.ci95[0] < found.kappa < found.ci95[1]


def test_sample_is_spread_over_strata_and_depends_only_on_the_seed() -> None:
    sample = sample_for_labelling(ROWS, n=20, seed=5)
    assert set(Counter((row.domain, row.complexity) for row in sample).values()) == {2, 3}
    assert sample == sample_for_labelling(ROWS[::-1], n=20, seed=5)
    assert sample != sample_for_labelling(ROWS, n=20, seed=6)
    assert [row.id for row in sample] != sorted(row.id for row in sample)
    with pytest.raises(InvalidInput, match="Cannot sample 46"):
        sample_for_labelling(ROWS, n=46)


def test_agreements_compare_by_id() -> None:
    second = [SecondLabel(row.id, row.domain, "simple") for row in ROWS[::-1]]
    found = agreements(ROWS, second)
    assert found["domain"].kappa == 1.0
    assert found["complexity"].observed == pytest.approx(1 / 3)
    with pytest.raises(InvalidEvalSet, match="'nobody'"):
        agreements(ROWS, [SecondLabel("nobody", "css", "simple")])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], "row 1: expected"),
        ([json.dumps({"id": "a", "domain": "css"})], "row 1: expected"),
        ([json.dumps({"id": "a", "domain": "css", "complexity": "hard"})], "row 1: complexity must be one of"),
        ([json.dumps({"id": "a", "domain": "css", "complexity": "simple"})] * 2, "row 2: the id 'a' stands twice"),
    ],
)
def test_broken_second_labels_are_refused(tmp_path: Path, lines: list[str], sentence: str) -> None:
    path = tmp_path / "second_labels.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidEvalSet, match=sentence):
        load_second_labels(path)
