"""Labelling a second time, blind: which prompts, and how far the two people agree.

Notation: n prompts labelled twice; p the share of equal labels; a, b each person's own label shares; e = Σ_k a_k · b_k the share of
equal labels that chance would give.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from eval_sets.records import COMPLEXITIES, TaskRow
from modelyard.errors import InvalidEvalSet, InvalidInput

SEED: Final = 20_261_122  # of the sample of web_tasks that was labelled twice
SAMPLE: Final = 100
RESAMPLES: Final = 2_000
LABELS: Final = ("domain", "complexity")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two people agree: `observed` share of equal labels, Cohen's kappa (None: undefined) and its 95 % interval."""

    n: int
    observed: float
    kappa: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class SecondLabel:
    """What the second person said of a prompt."""

    id: str
    domain: str
    complexity: str


def sample_for_labelling(rows: Sequence[TaskRow], n: int = SAMPLE, seed: int = SEED) -> tuple[TaskRow, ...]:
    """Return n rows in shuffled order, spread evenly over domain × complexity: every stratum gives ⌊n / strata⌋ or one more.

    Raises:
        InvalidInput: There are fewer rows than n.
    """
    if len(rows) < n:
        raise InvalidInput(f"Cannot sample {n} prompts for labelling from {len(rows)}.")
    rng = np.random.default_rng(seed)
    strata: defaultdict[tuple[str, str], list[TaskRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        strata[row.domain, row.complexity].append(row)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for _, members in sorted(strata.items())]
    chosen: list[TaskRow] = []
    for depth in range(max(map(len, shuffled))):
        layer = [members[depth] for members in shuffled if len(members) > depth]
        chosen += [layer[i] for i in rng.permutation(len(layer))]
    return tuple(chosen[i] for i in rng.permutation(n))


def blinded(sample: Sequence[TaskRow]) -> dict[str, TaskRow]:
    """Give each row an id that says nothing about its labels: `q-001`, `q-002` … in the order of the sample."""
    return {f"q-{number:03}": row for number, row in enumerate(sample, start=1)}


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return (p − e) / (1 − e) (Cohen 1960), or None where both people gave every prompt the same one label.

    Raises:
        InvalidInput: The sequences are empty or of different length.
    """
    if not first or len(first) != len(second):
        raise InvalidInput(
            f"Agreement needs as many first labels as second ones, but got {len(first)} and {len(second)}."
        )
    n = len(first)
    equal = sum(a == b for a, b in zip(first, second, strict=True)) / n
    ours, theirs = Counter(first), Counter(second)
    chance = sum(ours[label] * theirs[label] for label in ours) / n**2
    return None if chance == 1.0 else (equal - chance) / (1.0 - chance)


def agreement(first: Sequence[str], second: Sequence[str], *, seed: int = SEED) -> Agreement:
    """Return kappa with its percentile-bootstrap interval over prompts (Efron & Tibshirani 1993, §13.3)."""
    kappa = cohens_kappa(first, second)
    observed = float(np.mean([a == b for a, b in zip(first, second, strict=True)]))
    rng = np.random.default_rng(seed)
    rows: list[list[int]] = rng.integers(len(first), size=(RESAMPLES, len(first))).tolist()
    resampled = [cohens_kappa([first[i] for i in drawn], [second[i] for i in drawn]) for drawn in rows]
    defined = [value for value in resampled if value is not None]
    if kappa is None or not defined:
        return Agreement(len(first), observed, None, None)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Agreement(len(first), observed, kappa, (float(low), float(high)))


def load_second_labels(path: Path) -> tuple[SecondLabel, ...]:
    """Read `{"id", "domain", "complexity"}` lines.

    Raises:
        InvalidEvalSet: The file is not there, or a row breaks a rule.
    """
    if not path.is_file():
        raise InvalidEvalSet(f"There is no file {path} of second labels.")
    labels: dict[str, SecondLabel] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        where = f"{path}, row {number}"
        try:
            label = SecondLabel(**json.loads(line))
        except (ValueError, TypeError):
            raise InvalidEvalSet(f'{where}: expected {{"id", "domain", "complexity"}}, got {line[:80]!r}.') from None
        if label.complexity not in COMPLEXITIES:
            raise InvalidEvalSet(
                f"{where}: complexity must be one of {', '.join(COMPLEXITIES)}, got {label.complexity!r}."
            )
        if labels.setdefault(label.id, label) is not label:
            raise InvalidEvalSet(f"{where}: the id {label.id!r} stands twice.")
    return tuple(labels.values())


def agreements(rows: Sequence[TaskRow], second: Sequence[SecondLabel]) -> Mapping[str, Agreement]:
    """Return the agreement of the rows' own labels with the second ones, for `domain` and for `complexity`.

    Raises:
        InvalidEvalSet: A second label belongs to no row.
    """
    by_id = {row.id: row for row in rows}
    unknown = [label.id for label in second if label.id not in by_id]
    if unknown:
        raise InvalidEvalSet(f"The second labels name {unknown[0]!r}, which is not in the set.")
    return {
        name: agreement(
            [getattr(by_id[label.id], name) for label in second], [getattr(label, name) for label in second]
        )
        for name in LABELS
    }
