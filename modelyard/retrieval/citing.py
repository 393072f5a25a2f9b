"""Which of the retrieved passages an answer leans on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modelyard.types import Passage


def merge_sources(retrieved: Sequence[Passage], cited: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the retrieved passages, those that hold a cited span marked as cited, and behind them what was cited from elsewhere."""
    marked = [replace(passage, cited=any(_holds(passage, other) for other in cited)) for passage in retrieved]
    elsewhere = [
        replace(other, cited=True) for other in cited if not any(_holds(passage, other) for passage in retrieved)
    ]
    return (*marked, *elsewhere)


def count_cited(passages: Sequence[Passage]) -> str:
    """Say how many of the passages are cited."""
    return f"{sum(passage.cited for passage in passages)} of {len(passages)} sources cited"


def _holds(passage: Passage, other: Passage) -> bool:
    return passage.document == other.document and passage.start < other.end and other.start < passage.end
