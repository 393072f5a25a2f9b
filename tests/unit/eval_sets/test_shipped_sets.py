"""The sets that come with Modelyard hold what their cards promise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from eval_sets import COMPLEXITIES, TaskSet, check_facts, load_documents, load_tasks, near_duplicates, verify
from eval_sets.agreement import agreements, load_second_labels, sample_for_labelling
from eval_sets.cards import agreement_figures, blocks

SETS = Path(__file__).parents[3] / "eval_sets"


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return load_tasks(SETS / "web_tasks")


@pytest.mark.parametrize("name", ["web_docs", "web_tasks"])
def test_set_is_as_it_was_sealed(name: str) -> None:
    assert verify(SETS / name)


@pytest.mark.parametrize("name", ["web_docs", "web_tasks"])
def test_card_has_the_figures_of_the_data(name: str) -> None:
    card = (SETS / name / "card.md").read_text("utf-8")
    for block, content in blocks(SETS / name).items():
        between = card.split(f"<!-- {block} -->")[1].split(f"<!-- /{block} -->")[0]
        assert between.strip() == content
    for heading in ("## How it was written", "## Limits"):
        assert heading in card


def test_prompts_are_spread_evenly_over_domains_and_complexities(tasks: TaskSet) -> None:
    strata = Counter((row.domain, row.complexity) for row in tasks)
    assert len(tasks) >= 360
    assert len({domain for domain, _ in strata}) >= 12
    assert len(strata) == len({domain for domain, _ in strata}) * len(COMPLEXITIES)
    assert set(strata.values()) == {12}


def test_no_two_prompts_are_near_duplicates(tasks: TaskSet) -> None:
    found = near_duplicates([row.prompt for row in tasks], 0.5)
    assert [(tasks.rows[pair.first].id, tasks.rows[pair.second].id, pair.similarity) for pair in found] == []


def test_label_guide_describes_every_domain_and_complexity(tasks: TaskSet) -> None:
    guide = (SETS / "web_tasks" / "card.md").read_text("utf-8").split("## Label guide")[1]
    for label in {row.domain for row in tasks} | set(COMPLEXITIES):
        assert f"| {label} |" in guide


def test_facts_stand_in_the_documents_that_they_name(tasks: TaskSet) -> None:
    documents = load_documents(SETS / "web_docs")
    assert len(documents) >= 60
    assert len(tasks.checkable) >= 200
    check_facts(tasks, documents)


def test_no_fact_is_in_its_own_prompt(tasks: TaskSet) -> None:
    assert [row.id for row in tasks for fact in row.facts if fact.matches(row.prompt)] == []


def test_no_fact_of_a_web_domain_is_in_nearly_every_document(tasks: TaskSet) -> None:
    documents = load_documents(SETS / "web_docs")
    common = [
        (row.id, fact.pattern)
        for row in tasks
        for fact in row.facts
        if fact.docs and sum(fact.matches(document.text) for document in documents) > 0.15 * len(documents)
    ]
    assert common == []


def test_every_document_has_facts(tasks: TaskSet) -> None:
    judged = {document for grades in tasks.qrels().values() for document in grades}
    assert {document.id for document in load_documents(SETS / "web_docs")} == judged


def test_a_hundred_prompts_were_labelled_twice_and_the_card_says_how_far_the_labels_agree(tasks: TaskSet) -> None:
    second = load_second_labels(SETS / "web_tasks" / "second_labels.jsonl")
    assert {label.id for label in second} == {row.id for row in sample_for_labelling(tasks.rows)}
    assert len(second) == 100
    figures = agreement_figures(agreements(tasks.rows, second))
    assert figures in (SETS / "web_tasks" / "card.md").read_text("utf-8")
