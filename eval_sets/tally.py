"""Counts over the records of an eval set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from eval_sets.records import Document, TaskSet

Counts = dict[str, int | dict[str, int]]


def task_counts(tasks: TaskSet) -> Counts:
    """Count prompts: in all, checkable ones, facts, and by domain, complexity, language and style."""
    return {
        "prompts": len(tasks),
        "checkable": len(tasks.checkable),
        "facts": sum(len(row.facts) for row in tasks),
        "domains": tally(row.domain for row in tasks),
        "complexities": tally(row.complexity for row in tasks),
        "languages": tally(row.language for row in tasks),
        "styles": tally(style for row in tasks for style in row.style),
    }


def document_counts(documents: Iterable[Document]) -> Counts:
    """Count documents: in all, words, and by topic and kind."""
    documents = tuple(documents)
    return {
        "documents": len(documents),
        "words": sum(len(document.text.split()) for document in documents),
        "topics": tally(document.topic for document in documents),
        "kinds": tally(document.kind for document in documents),
    }


def tally(labels: Iterable[str]) -> dict[str, int]:
    """Count labels, in alphabetical order."""
    return dict(sorted(Counter(labels).items()))
