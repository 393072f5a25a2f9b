"""What tuning may change: spaces of plain numbers and names, and the parameter records they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from classifiers.routers import RouterParams
from classifiers.tasks import TaskParams
from classifiers.trees import TreeParams


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
    "chars": Choice(tuple(CHARS)),
    "max_terms": Whole(4_000, 40_000, log=True),
    "lsa_dimensions": Whole(24, 128),
    "strength": Real(0.3, 100.0, log=True),
    "dense_weight": Real(0.05, 1.0, log=True),
    "mix": Real(0.2, 0.9),
    "trees.rounds": Whole(30, 120),
    "trees.learning_rate": Real(0.03, 0.2, log=True),
    "trees.leaves": Whole(4, 16),
    "trees.min_leaf": Whole(4, 24),
}

ROUTER_SPACE: Final[Space] = {
    "kind": Choice(("stacked", "average")),
    "min_df": Whole(1, 6),
    "max_terms": Whole(4_000, 40_000, log=True),
    "lsa_dimensions": Whole(32, 160),
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
    own, trees = _split(values)
    return replace(TaskParams(), **own | {"chars": CHARS[own["chars"]]}, trees=replace(TaskParams().trees, **trees))


def task_values(params: TaskParams) -> dict[str, Any]:
    """Return the values of `TASK_SPACE` that stand for a record: where a search begins."""
    chars = next((name for name, lengths in CHARS.items() if lengths == params.chars), "none")
    return _values(TASK_SPACE, params, params.trees) | {"chars": chars}


def router_params(values: Mapping[str, Any]) -> RouterParams:
    """Return the record that values of `ROUTER_SPACE` stand for."""
    own, trees = _split(values)
    return replace(RouterParams(), **own, trees=replace(RouterParams().trees, **trees))


def router_values(params: RouterParams) -> dict[str, Any]:
    """Return the values of `ROUTER_SPACE` that stand for a record."""
    return _values(ROUTER_SPACE, params, params.trees)


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    trees = {name.removeprefix("trees."): value for name, value in values.items() if name.startswith("trees.")}
    return {name: value for name, value in values.items() if not name.startswith("trees.")}, trees


def _values(space: Space, params: Any, trees: TreeParams) -> dict[str, Any]:
    return {
        name: getattr(trees, name.removeprefix("trees.")) if name.startswith("trees.") else getattr(params, name)
        for name in space
    }
