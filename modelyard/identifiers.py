"""Identifiers that grow with time and cannot be guessed.

Rows that come together then lie together in an index: a batch of them writes a few pages at its end rather than one page a row.
"""

from __future__ import annotations

import os
import time
from typing import Final

_RANDOM_BYTES: Final = 10
_DIGITS: Final = 2 * _RANDOM_BYTES
_DRAWN: Final = 256  # random ends that are drawn at once: a system call costs more than all the rest
_ENDS: Final[list[str]] = []  # drawn, and given to nobody yet
os.register_at_fork(after_in_child=_ENDS.clear)  # the parent gives them out


def ordered_hex() -> str:
    """Return 32 hexadecimal digits: 12 of the milliseconds since 1970, and 20 random ones (80 bits) as good as `secrets`."""
    return f"{time.time_ns() // 1_000_000:012x}{_random_end()}"


def _random_end() -> str:
    try:
        return _ENDS.pop()  # each is popped by one thread alone
    except IndexError:
        drawn = os.urandom(_DRAWN * _RANDOM_BYTES).hex()
        first, *others = (drawn[at : at + _DIGITS] for at in range(0, len(drawn), _DIGITS))
        _ENDS.extend(others)
        return first
