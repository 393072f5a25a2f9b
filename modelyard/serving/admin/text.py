"""Text that every database can store and every response can hold."""

from __future__ import annotations

from typing import Any, cast


def check_text(value: object) -> None:
    """Look at all text in plain data, however deep.

    Raises:
        ValueError: Some of it holds NUL, which PostgreSQL refuses, or half a surrogate pair, which no encoding has.
    """
    waiting: list[object] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            if not is_storable(found):
                raise ValueError("text must not hold NUL characters or half surrogate pairs")
        elif isinstance(found, dict):
            entries = cast("dict[Any, Any]", found)
            waiting += [*entries.keys(), *entries.values()]
        elif isinstance(found, list):
            waiting += cast("list[Any]", found)


def is_storable(text: str) -> bool:
    """Whether every database and every response can hold a text."""
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
