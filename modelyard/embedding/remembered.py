"""A dictionary that works out what it lacks, and stays small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

_Value = TypeVar("_Value")

LONGEST: Final = 64  # characters; what is longer is no word, and no key worth keeping


class Remembered(dict[str, _Value]):
    """What a function says of words, most of which come again.

    It is a dictionary rather than `functools.lru_cache`, because `map(remembered.__getitem__, words)` takes no step of Python for a word
    that is known.

    Args:
        of: The function.
        limit: Words kept at most; when there are more, all are forgotten.
    """

    def __init__(self, of: Callable[[str], _Value], limit: int = 16_384) -> None:
        super().__init__()
        self._of, self._limit = of, limit

    def __missing__(self, word: str) -> _Value:
        value = self._of(word)
        if len(word) <= LONGEST:
            if len(self) >= self._limit:
                self.clear()
            self[word] = value
        return value
