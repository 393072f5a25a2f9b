from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import InvalidInput
from modelyard.registry.verdict import Difference, Verdict, conclude, read_verdict
from tests.unit.registry.yard import verdict

FREE = Difference(0.0, 0.0, 0.0)
CHEAPER = Difference(-0.002, -0.003, -0.001)
DEARER = Difference(0.002, 0.001, 0.003)


@pytest.mark.parametrize(
    ("score", "cost", "outcome"),
    [
        (Difference(0.05, 0.01, 0.09), DEARER, "better"),
        (Difference(0.05, 0.0, 0.09), DEARER, "inconclusive"),
        (Difference(-0.005, -0.015, 0.005), CHEAPER, "not worse and cheaper"),
        (Difference(-0.010, -0.019, -0.001), CHEAPER, "not worse and cheaper"),
        (Difference(-0.005, -0.020, 0.005), CHEAPER, "inconclusive"),
        (Difference(-0.005, -0.015, 0.005), FREE, "inconclusive"),
        (Difference(-0.010, -0.019, -0.001), FREE, "worse"),
        (Difference(-0.1, -0.2, -0.05), CHEAPER, "worse"),
        (Difference(0.0, -0.2, 0.2), CHEAPER, "inconclusive"),
    ],
)
def test_outcome_follows_from_the_intervals_and_the_margin(score: Difference, cost: Difference, outcome: str) -> None:
    assert conclude(score, cost, 0.02) == outcome


@pytest.mark.parametrize("margin", [0.0, -0.01, float("nan"), float("inf")])
def test_margin_must_be_a_positive_number(margin: float) -> None:
    with pytest.raises(InvalidInput, match="margin of a comparison must be a positive number"):
        conclude(FREE, FREE, margin)


FINITE = st.floats(-10, 10)


@given(st.tuples(FINITE, FINITE, FINITE).map(sorted), st.tuples(FINITE, FINITE, FINITE).map(sorted), st.floats(1e-6, 1))
def test_json_round_trip_keeps_every_figure(score: list[float], cost: list[float], margin: float) -> None:
    before = verdict(
        "3",
        None,
        score=Difference(score[1], score[0], score[2]),
        cost=Difference(cost[1], cost[0], cost[2]),
        margin=margin,
    )
    assert Verdict.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_json_is_in_the_form_of_estimates() -> None:
    facts = verdict("3", "2").to_json()
    assert facts["difference"] == {"value": 0.05, "ci95": [0.03, 0.07]}
    assert facts["challenger"] == {"name": "learned", "version": "3"}
    assert facts["against"] == {"name": "champion", "version": "2"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"outcome": "worse"}, "says 'worse', but its figures say 'better'"),
        ({"outcome": "splendid"}, "'splendid' is none of better"),
        ({"difference": {"value": 0.05, "ci95": [0.07, 0.03]}}, "low ≤ high"),
        ({"difference": {"value": float("nan"), "ci95": [0.0, 0.1]}}, "finite"),
        ({"difference": {"value": None, "reason": "no data"}}, "ci95"),
        ({"difference": {"value": "0.05", "ci95": [0.0, 0.1]}}, "a number is needed"),
        ({"margin": 0}, "positive number, but got 0"),
        ({"n": 0}, "n ≥ 1"),
        ({"n": 1.5}, "whole number"),
        ({"data": ""}, "data must not be empty"),
        ({"schema": 2}, "schema 2 is not 1"),
        ({"challenger": "learned"}, "not a verdict"),
        ({"created_at": "2026-01-02T03:04:05"}, "time zone"),
        ({"created_at": "yesterday"}, "yesterday"),
    ],
)
def test_reading_refuses_what_breaks_a_rule(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Verdict.from_json(verdict("3", "2").to_json() | change, "v.json")


@pytest.mark.parametrize("name", verdict("3", "2").to_json())
def test_reading_names_the_missing_field(name: str) -> None:
    facts = verdict("3", "2").to_json()
    del facts[name]
    with pytest.raises(InvalidInput, match=f"^v.json lacks the field '{name}'.$"):
        Verdict.from_json(facts, "v.json")


@pytest.mark.parametrize("facts", [None, [], "better", 3])
def test_reading_refuses_what_is_no_object(facts: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a verdict"):
        Verdict.from_json(facts)


def test_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    with pytest.raises(InvalidInput, match=r"No verdict can be read from .*v\.json"):
        read_verdict(path)
    path.write_text("{")
    with pytest.raises(InvalidInput, match=r"No verdict can be read from .*v\.json"):
        read_verdict(path)
    path.write_text(json.dumps(verdict("3", "2").to_json()))
    assert read_verdict(path).challenger_version == "3"


def test_outcome_cannot_be_talked_up() -> None:
    with pytest.raises(InvalidInput, match="figures say 'inconclusive'"):
        replace(verdict("3", "2"), score=Difference(0.05, -0.01, 0.1))


def test_sentence_says_all_that_decides() -> None:
    assert verdict("3", None).sentence == (
        "learned is better against cheapest on 400 prompts: score +0.0500 [+0.0300, +0.0700], "
        "cost +0.0000 [+0.0000, +0.0000] USD per 1000 prompts, margin 0.02."
    )
