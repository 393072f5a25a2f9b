"""What tuning may change: spaces of plain numbers and names, and the parameter records they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final

from classifiers.routers import RouterParams
from classifiers.tasks import TaskParams


@dataclass(frozen=True, slots=True)
class Real:
    """A number in low..high, searched evenly in its logarithm where `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in low..high, searched evenly in its logarithm where `log`."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some names."""

    options: tuple[str, ...]


Space = Mapping[str, Real | Whole | Choice]

CHARS: Final[Mapping[str, tuple[int, int] | None]] = {"none": None, "2-4": (2, 4), "2-5": (2, 5), "3-5": (3, 5)}

TASK_SPACE: Final[Space] = {
    "kind": Choice(("linear", "trees", "blend")),
    "encoder.chars": Choice(tuple(CHARS)),
    "encoder.max_terms": Whole(4_000, 40_000, log=True),
    "encoder.lsa_dimensions": Whole(24, 128),
    "encoder.structure_weight": Real(0.02, 0.5, log=True),
    "encoder.keyword_weight": Real(0.1, 1.0, log=True),
    "strength": Real(0.3, 30.0, log=True),
    "mix": Real(0.2, 0.9),
    "trees.rounds": Whole(30, 120),
    "trees.learning_rate": Real(0.03, 0.2, log=True),
    "trees.leaves": Whole(4, 16),
    "trees.min_leaf": Whole(4, 24),
}

ROUTER_SPACE: Final[Space] = {
    "kind": Choice(("stacked", "average")),
    "encoder.min_df": Whole(1, 6),
    "encoder.max_terms": Whole(4_000, 40_000, log=True),
    "encoder.lsa_dimensions": Whole(32, 160),
    "encoder.structure_weight": Real(0.02, 0.5, log=True),
    "encoder.keyword_weight": Real(0.05, 0.5, log=True),
    "strength": Real(0.1, 10.0, log=True),
    "domain_strength": Real(2.0, 100.0, log=True),
    "trees.rounds": Whole(40, 240),
    "trees.learning_rate": Real(0.01, 0.1, log=True),
    "trees.leaves": Whole(4, 31),
    "trees.min_leaf": Whole(10, 120, log=True),
    "trees.columns": Real(0.2, 0.9),
}


def task_params(values: Mapping[str, Any]) -> TaskParams:
    """Return the record that values of `TASK_SPACE` stand for."""
    return _fill(TaskParams(), values)


def task_values(params: TaskParams) -> dict[str, Any]:
    """Return the values of `TASK_SPACE` that stand for a record: where a search begins."""
    return _values(TASK_SPACE, params)


def router_params(values: Mapping[str, Any]) -> RouterParams:
    """Return the record that values of `ROUTER_SPACE` stand for."""
    return _fill(RouterParams(), values)


def router_values(params: RouterParams) -> dict[str, Any]:
    """Return the values of `ROUTER_SPACE` that stand for a record."""
    return _values(ROUTER_SPACE, params)


def _fill(params: Any, values: Mapping[str, Any]) -> Any:
    """Set values by dotted names: `trees.rounds` is the field `rounds` of the record `trees`."""
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        record, _, field = name.rpartition(".")
        (inner.setdefault(record, {}) if record else own)[field] = CHARS[value] if field == "chars" else value
    return replace(
        params, **own, **{record: replace(getattr(params, record), **found) for record, found in inner.items()}
    )


def _values(space: Space, params: Any) -> dict[str, Any]:
    values = {name: attrgetter(name)(params) for name in space}
    by_lengths = {lengths: name for name, lengths in CHARS.items()}
    return {name: by_lengths.get(value, "none") if name.endswith("chars") else value for name, value in values.items()}
