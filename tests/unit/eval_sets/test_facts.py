"""Facts of prompts without documents accept right answers in several wordings, and refuse wrong or unrelated ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval_sets import TaskSet, load_tasks

SETS = Path(__file__).parents[3] / "eval_sets"

CASES: list[tuple[str, str, str]] = [
    ("maths-003", "3x = 27, so **x = 9**", "x = 13/3, as 20 − 7 = 13"),
    ("maths-003", "9", "x is about 4.33"),
    ("maths-006", "You forgot x = -3: (-3)² is 9, too.", "Links need a contrast of 3:1 at least."),
    ("maths-010", "360 = 2³·3²·5, so (3+1)(2+1)(1+1) = 24", "The divisors are 1, 2, 3, 4, 5, 6 … 18, 20, 24, 30 …: 23 of them."),
    ("maths-011", "C(32, 3) = 32·31·30/6 = 4,960 teams", "32 · 31 · 30 = 29,760"),
    ("maths-012", "Yes, 2027 is prime.", "No: it can be divided by 7."),
    ("maths-024", "|12 + 6 − 7| / 5 = 11/5 = 2.2", "WCAG 2.2 asks for 24 by 24 pixels."),
    ("data_analysis-002", '=MEDIAN(IF(A2:A40<>0,A2:A40))', "=MEDIAN(A2:A40)"),
    ("data_analysis-010", "count() skips missing values: 243 emails are NaN.", "len counts the header, too."),
    ("writing-004", "I received your package yesterday and it's perfect.", "I recieved your package yesterday and its perfect."),
    ("writing-009", "Just say “because”.", "Shorten it to “owing to the fact”, because it reads better in print."),
    ("writing-010", "attorneys general", "attorney generals"),
    ("chat-006", "It's 9 pm in Tokyo.", "It's 8 pm in Tokyo."),
    ("chat-012", "Each side has 15 players.", "Thirteen, and the game lasts 80 minutes; half-time is 15 minutes."),
    ("programming-003", "It gives [4, 5].", "It gives [3, 4]."),
    ("programming-012", "while IFS= read -r line; do …; done < file", "for line in $(cat file); do …; done"),
    ("programming-013", "counts = Counter(names)", "Sort the list first."),
    ("programming-024", "Use clock.tick(60) and scale by dt.", "Buy a slower computer."),
]  # fmt: skip


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return load_tasks(SETS / "web_tasks")


@pytest.mark.parametrize(("task", "right", "wrong"), CASES)
def test_right_answer_has_every_fact_and_wrong_one_lacks_one(tasks: TaskSet, task: str, right: str, wrong: str) -> None:
    facts = next(row.facts for row in tasks if row.id == task)
    assert facts
    assert all(fact.matches(right) for fact in facts)
    assert not all(fact.matches(wrong) for fact in facts)
