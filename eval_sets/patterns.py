"""What a fact's pattern may be: the common ground of RE2 and `re`, and cheap to match against any text.

RE2 has neither look-around nor back-references, and matches in linear time. `re` backtracks: a pattern is therefore refused where its
number of ways to match could explode. Notation: ways(p) bounds in how many ways p can match at one place of a text.

    ways(p q) = ways(p) · ways(q)        ways(p | q) = ways(p) + ways(q)
    ways(p{a,b}) = (b − a + 1) · ways(p)^b          ways(p*) = UNBOUNDED, only where ways(p) = 1
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

# What `re` itself parses with, so that there is no second grammar to keep equal to it.
grammar: Final[Any] = import_module("re._parser")
ops: Final[Any] = import_module("re._constants")

MOST_WAYS: Final = 20_000_000
UNBOUNDED: Final = 1_000  # how far an unbounded repeat is taken to reach, in characters
MOST_REPEATS: Final = 1_000  # RE2's own bound
LONGEST: Final = 1_000  # characters

_REFUSED: Final = {
    ops.ASSERT: "look-around",
    ops.ASSERT_NOT: "look-around",
    ops.GROUPREF: "a back-reference",
    ops.GROUPREF_EXISTS: "a conditional group",
    ops.ATOMIC_GROUP: "an atomic group",
    ops.POSSESSIVE_REPEAT: "a possessive repeat",
}
_REPEATS: Final = (ops.MAX_REPEAT, ops.MIN_REPEAT)


class BadPattern(ValueError):
    """A pattern breaks a rule; the message is the end of a sentence about it."""


@lru_cache(maxsize=8192)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the pattern, ready to search without regard to case.

    Raises:
        BadPattern: It is no regular expression, not RE2's, matches the empty text, or could take too long.
    """
    if len(pattern) > LONGEST:
        raise BadPattern(f"has {len(pattern)} characters; at most {LONGEST} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a set within a set, which later versions of `re` will read differently
            tree = grammar.parse(pattern, re.IGNORECASE)
            expression = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise BadPattern(f"is not a regular expression ({error})") from None
    if expression.search("") is not None:
        raise BadPattern("matches the empty text, so that every answer would have it")
    if _ways(tree) > MOST_WAYS:
        raise BadPattern(
            f"could match in more than {MOST_WAYS:,} ways; give its repeats a bound, such as .{{0,60}} for .*, and nest none"
        )
    return expression


def _ways(tree: Any) -> int:
    ways = 1
    for operation, argument in tree:
        ways = min(ways * _ways_of(operation, argument), MOST_WAYS + 1)
    return ways


def _ways_of(operation: Any, argument: Any) -> int:
    if operation in _REFUSED:
        raise BadPattern(f"has {_REFUSED[operation]}, which RE2 does not know")
    if operation in _REPEATS:
        return _ways_of_repeat(*argument)
    if operation is ops.BRANCH:
        return sum(_ways(branch) for branch in argument[1])
    if operation is ops.SUBPATTERN:
        return _ways(argument[3])
    return 1


def _ways_of_repeat(least: int, most: int, body: Any) -> int:
    inner = _ways(body)
    if most is ops.MAXREPEAT:
        return UNBOUNDED if inner == 1 else MOST_WAYS + 1
    if most > MOST_REPEATS:
        raise BadPattern(f"repeats up to {most} times; RE2 allows {MOST_REPEATS}")
    return (most - least + 1) * (1 if inner == 1 else min(inner, MOST_WAYS) ** min(most, 30))
