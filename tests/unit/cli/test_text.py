from __future__ import annotations

from dataclasses import replace

from modelyard.cli.text import explanation, table
from modelyard.types import Candidate, Route
from tests.unit.storage.answers import answer, passage


def test_explanation_shows_every_part_aligned() -> None:
    found = replace(
        answer(passages=(passage(cited=True), passage(cited=False))),
        route=Route(
            "local-md",
            (Candidate("local-sm", None, 0.00001), Candidate("local-md", 0.7, 0.00008)),
            "learned",
            ("it is worth it",),
            confidence=0.75,
            propensity=0.9,
        ),
        notices=("No champion.",),
    )
    assert explanation(found.metadata).splitlines() == [
        "Task       css / simple, about 6 tokens, read by rules",
        "           domain      css 0.90  react 0.10",
        "           complexity  simple 1.00",
        "Route      local-md, chosen by learned, confidence 0.75, propensity 0.90",
        "           because it is worth it",
        "              model     quality        cost USD",
        "              local-sm  not predicted  0.000010",
        "           >  local-md  0.700          0.000080",
        "Sources    [1]  CSS  docs/css.md 0-12  score 1.500  cited",
        "           [2]  CSS  docs/css.md 0-12  score 1.500",
        "Steps      generate  ran  1.5 ms  drafted",
        "Usage      100 prompt and 20 completion tokens (estimated), USD 0.000080",
        "Versions   composite auto, classifier rules, router static",
        "Notices    No champion.",
    ]


def test_only_the_likeliest_labels_are_shown() -> None:
    found = answer()
    domains = {f"d{number}": number / 15 for number in range(1, 6)}
    shown = explanation(replace(found, task=replace(found.task, domain="d5", domains=domains)).metadata)
    assert "domain      d5 0.33  d4 0.27  d3 0.20  d2 0.13  and 1 more" in shown


def test_answer_without_sources_says_so() -> None:
    assert "Sources    none" in explanation(answer().metadata).splitlines()


def test_table_leaves_out_empty_columns() -> None:
    assert list(table([("a", "", "b"), ("aa", "", "")])) == ["a   b", "aa"]
