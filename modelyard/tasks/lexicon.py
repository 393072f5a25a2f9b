"""The words a practitioner would name for each subject; written from knowledge of the field, not from any labelled set."""

from __future__ import annotations

from typing import NamedTuple

from modelyard.tasks.words_general import WORDS as GENERAL
from modelyard.tasks.words_interface import WORDS as INTERFACE
from modelyard.tasks.words_system import WORDS as SYSTEM


class Terms(NamedTuple):
    """The terms of one domain: words, prefixes with a trailing `*`, and phrases of consecutive tokens."""

    strong: tuple[str, ...]  # each names the domain nearly alone
    weak: tuple[str, ...]  # suggestive, but at home elsewhere too


def _terms(strong: str, weak: str) -> Terms:
    first = _split(strong)
    second = _split(weak)
    kept = _uncovered(first, first)
    return Terms(kept, tuple(term for term in _uncovered(second, first + second) if term not in kept))


def _split(block: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term for term in (" ".join(term.split()) for term in block.split(",")) if term))


def _uncovered(terms: tuple[str, ...], by: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the phrases that a prefix phrase of as many words matches already, so that none counts twice."""
    stems = [term[:-1] for term in by if " " in term and term.endswith("*")]
    return tuple(
        term
        for term in terms
        if term.endswith("*") or not any(term.startswith(stem) and term.count(" ") == stem.count(" ") for stem in stems)
    )


LEXICON: dict[str, Terms] = {domain: _terms(*blocks) for domain, blocks in {**INTERFACE, **SYSTEM, **GENERAL}.items()}

DOMAINS = tuple(LEXICON)
