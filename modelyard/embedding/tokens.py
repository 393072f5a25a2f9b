"""Splits prose and code into the same small tokens."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def tokens(text: str) -> list[str]:
    """Return lower-case words, numbers and single signs; `useState` gives `use`, `state` and `usestate`."""
    found: list[str] = []
    for word in _WORD.findall(text):
        lower = word.lower()
        found.append(lower)
        if lower != word and len(word) > 1:
            humps = _HUMP.split(word)
            if len(humps) > 1:
                found.extend(hump.lower() for hump in humps)
    return found
