"""Splits prose and code into the same small tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, compress, count, pairwise
from operator import ne
from typing import NamedTuple

from modelyard.embedding.remembered import Remembered

MAX_CHARS = 6000  # a longer text is read at both ends: its task shows there, and time stays bounded

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_ASCII_WORD = re.compile(r"[A-Za-z]+|[0-9]+|[^\w\s]")  # the same in ASCII text, by a third faster
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def tokens(text: str) -> list[str]:
    """Return lower-case words, numbers and single signs; `useState` gives `use`, `state` and `usestate`."""
    words = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    if text.lower() == text:
        return words
    found = list(map(str.lower, words))
    capitals = [*compress(count(), map(ne, words, found))]  # where
    for at in reversed(capitals):
        humps = _HUMP.split(words[at])
        if len(humps) > 1:
            found[at + 1 : at + 1] = map(str.lower, humps)
    return found


def clip(text: str, limit: int = MAX_CHARS) -> str:
    """Return the text, or its first and last halves where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n{text[-half:]}"


class Reading(NamedTuple):
    """What stands between the spaces of a text, its tokens in order, and each token joined to the next one by a space."""

    words: Sequence[str]
    tokens: Sequence[str]
    bigrams: Sequence[str]


@lru_cache(maxsize=16)
def read(text: str) -> Reading:
    """Return the tokens of a clipped text; do not write into it, it is shared.

    Classifier, router and index ask about the same text within one request: the last few readings are remembered. So are the tokens of
    words, of which most come again: a token is then the same string each time, and dictionaries need not work out its hash anew.
    """
    words = clip(text).split()
    found = list(chain.from_iterable(map(_TOKENS.__getitem__, words)))
    return Reading(words, found, list(map(" ".join, pairwise(found))))


_TOKENS = Remembered(tokens)
