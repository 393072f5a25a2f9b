"""Splits labelled prompts into parts that share no near-duplicates and have the same mix of domain × complexity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from eval_sets.records import TaskRow
from eval_sets.similarity import NEAR, clusters, near_duplicates
from modelyard.errors import InvalidEvalSet, InvalidInput

_WHOLE: Final = 1e-9  # shares may miss one by a rounding error

Stratum = tuple[str, str]


def split(rows: Sequence[TaskRow], shares: Mapping[str, float], seed: int) -> dict[str, tuple[TaskRow, ...]]:
    """Split rows by shares, such as `{"train": 0.8, "test": 0.2}`; each part keeps the order of the rows.

    Near-duplicates (character-5-gram Jaccard ≥ 0.5, and whatever such pairs connect) stay together. Within each domain × complexity the
    parts get their share as nearly as whole prompts allow, and what is left over goes to the part that is furthest behind in all.

    Raises:
        InvalidInput: The shares are not positive or do not sum to one.
        InvalidEvalSet: There are fewer prompts than parts.
    """
    _check(rows, shares)
    groups = clusters(len(rows), near_duplicates([row.prompt for row in rows], NEAR))
    strata: defaultdict[Stratum, list[tuple[int, ...]]] = defaultdict(list)
    for group in groups:
        strata[_stratum(rows[group[0]])].append(group)
    rng = np.random.default_rng(seed)
    ahead = dict.fromkeys(shares, 0.0)  # prompts that a part has beyond its share, over the strata so far
    part_of: dict[int, str] = {}
    for stratum in sorted(strata):
        members = [strata[stratum][i] for i in rng.permutation(len(strata[stratum]))]
        due = {name: share * sum(map(len, members)) for name, share in shares.items()}
        for group in sorted(members, key=len, reverse=True):
            name = _neediest(due, ahead)
            due[name] -= len(group)
            part_of |= dict.fromkeys(group, name)
        for name, left in due.items():
            ahead[name] -= left
    return {name: tuple(row for i, row in enumerate(rows) if part_of[i] == name) for name in shares}


def _neediest(due: Mapping[str, float], ahead: Mapping[str, float]) -> str:
    """Return the part to which the stratum owes a whole prompt, else the one that is furthest behind in all."""
    owed = max(due, key=lambda name: due[name])
    if due[owed] >= 1.0 - _WHOLE:
        return owed
    open_parts = [name for name in due if due[name] > _WHOLE] or [owed]
    return max(open_parts, key=lambda name: due[name] - ahead[name])


def _stratum(row: TaskRow) -> Stratum:
    return row.domain, row.complexity


def _check(rows: Sequence[TaskRow], shares: Mapping[str, float]) -> None:
    bad = {name: share for name, share in shares.items() if not share > 0.0}
    if bad or abs(sum(shares.values()) - 1.0) > _WHOLE:
        raise InvalidInput(f"The shares of a split must be positive and sum to 1, but got {dict(shares)}.")
    if len(rows) < len(shares):
        raise InvalidEvalSet(
            f"Cannot split {len(rows)} prompts into {len(shares)} parts: each part needs at least one."
        )
