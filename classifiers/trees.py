"""Boosted trees, as the arrays that serving evaluates: LightGBM, or scikit-learn's where LightGBM cannot be loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from modelyard.predictors import Trees

FloatArray = npt.NDArray[np.float64]

THREADS_FROM = 2_000_000  # cells, rows × features


@dataclass(frozen=True, slots=True)
class TreeParams:
    """How trees are grown."""

    rounds: int = 150
    learning_rate: float = 0.03
    leaves: int = 15
    depth: int = 6
    min_leaf: int = 40
    columns: float = 0.4
    l2: float = 5.0


@cache
def booster_library() -> str:
    """Return `lightgbm`, or `hist-gradient-boosting` where LightGBM's system library (libgomp) is not there."""
    try:
        import lightgbm
    except OSError:
        return "hist-gradient-boosting"
    return f"lightgbm {lightgbm.__version__}"


def fit_regression(x: FloatArray, y: FloatArray, params: TreeParams, *, seed: int) -> Trees:
    """Fit one output by least squares."""
    if booster_library().startswith("lightgbm"):
        return _fit_lightgbm(x, [y], params, seed, objective="regression")[0]
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _from_hist(_fit_hist(HistGradientBoostingRegressor(**_hist_params(params, seed)), x, y))


def fit_classes(x: FloatArray, labels: npt.NDArray[np.int64], classes: int, params: TreeParams, *, seed: int) -> Trees:
    """Fit `classes` outputs whose softmax are class probabilities; a class without an example starts far below the others."""
    present, compact = np.unique(labels, return_inverse=True)
    base = np.full(classes, -20.0)
    base[present] = 0.0
    if len(present) == 1:
        return _combine([], base)
    # One regression of log-odds a class (one-versus-rest): the softmax objective needs as many trees and takes the same time.
    parts = _fit_binaries(x, [(compact == c).astype(np.float64) for c in range(len(present))], params, seed)
    return _combine(list(zip(parts, present.tolist(), strict=True)), base)


def _fit_binaries(x: FloatArray, targets: Sequence[FloatArray], params: TreeParams, seed: int) -> list[Trees]:
    if booster_library().startswith("lightgbm"):
        return _fit_lightgbm(x, targets, params, seed, objective="binary")
    from sklearn.ensemble import HistGradientBoostingClassifier

    models = (HistGradientBoostingClassifier(**_hist_params(params, seed)) for _ in targets)
    return [_from_hist(_fit_hist(model, x, y)) for model, y in zip(models, targets, strict=True)]


def _fit_lightgbm(
    x: FloatArray, targets: Sequence[FloatArray], params: TreeParams, seed: int, *, objective: str
) -> list[Trees]:
    """Fit an ensemble a target; what they share, the features sorted into bins, is prepared once."""
    import lightgbm

    settings = {
        "objective": objective,
        "learning_rate": params.learning_rate,
        "num_leaves": params.leaves,
        "max_depth": params.depth,
        "min_data_in_leaf": params.min_leaf,
        "feature_fraction": params.columns,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": params.l2,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads_for(x.size),
        "verbosity": -1,
    }
    table, grown = lightgbm.Dataset(x, targets[0], free_raw_data=False), list[Trees]()
    for y in targets:
        booster = lightgbm.train(settings, table.set_label(y), num_boost_round=params.rounds)
        grown.append(_from_lightgbm(booster, np.zeros(1)))
    return grown


def _fit_hist(model: Any, x: FloatArray, y: FloatArray) -> Any:
    with threadpool_limits(threads_for(x.size), user_api="openmp"):
        return model.fit(x, y)


def threads_for(cells: int) -> int:
    """Return how many threads to grow trees with: on a small table threads wait for each other longer than they work."""
    return 1 if cells < THREADS_FROM else min(4, os.cpu_count() or 1)


def _hist_params(params: TreeParams, seed: int) -> dict[str, Any]:
    return {
        "max_iter": params.rounds,
        "learning_rate": params.learning_rate,
        "max_leaf_nodes": params.leaves,
        "max_depth": params.depth,
        "min_samples_leaf": params.min_leaf,
        "max_features": params.columns,
        "l2_regularization": params.l2,
        "early_stopping": False,
        "random_state": seed,
    }


@dataclass(slots=True)
class _Nodes:
    """Nodes of one tree in the order they are met; children are positions in the same tree."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[float]
    depth: int = 0

    @classmethod
    def empty(cls) -> _Nodes:
        return cls([], [], [], [], [])

    def leaf(self, value: float, depth: int) -> int:
        here = len(self.feature)
        for column, entry in zip((self.feature, self.left, self.right), (0, here, here), strict=True):
            column.append(entry)
        self.threshold.append(np.inf)
        self.value.append(value)
        self.depth = max(self.depth, depth)
        return here

    def split(self, feature: int, threshold: float) -> int:
        here = len(self.feature)
        for column, entry in zip((self.feature, self.left, self.right), (feature, -1, -1), strict=True):
            column.append(entry)
        self.threshold.append(threshold)
        self.value.append(0.0)
        return here


def _from_lightgbm(booster: Any, base: FloatArray) -> Trees:
    trees: list[_Nodes] = []
    for tree in booster.dump_model()["tree_info"]:
        nodes = _Nodes.empty()
        _walk_lightgbm(tree["tree_structure"], nodes, 0)
        trees.append(nodes)
    return _flatten(trees, base)


def _walk_lightgbm(node: dict[str, Any], nodes: _Nodes, depth: int) -> int:
    if "leaf_value" in node:
        return nodes.leaf(float(node["leaf_value"]), depth)
    if node["decision_type"] != "<=":
        raise ValueError(f"Only numerical splits are supported, got {node['decision_type']!r}.")
    here = nodes.split(int(node["split_feature"]), float(node["threshold"]))
    nodes.left[here] = _walk_lightgbm(node["left_child"], nodes, depth + 1)
    nodes.right[here] = _walk_lightgbm(node["right_child"], nodes, depth + 1)
    return here


def _from_hist(model: Any) -> Trees:
    trees: list[_Nodes] = []
    for (predictor,) in model._predictors:
        nodes = _Nodes.empty()
        _walk_hist(predictor.nodes, 0, nodes, 0)
        trees.append(nodes)
    return _flatten(trees, np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1))


def _walk_hist(table: Any, row: int, nodes: _Nodes, depth: int) -> int:
    record = table[row]
    if record["is_leaf"]:
        return nodes.leaf(float(record["value"]), depth)
    here = nodes.split(int(record["feature_idx"]), float(record["num_threshold"]))
    nodes.left[here] = _walk_hist(table, int(record["left"]), nodes, depth + 1)
    nodes.right[here] = _walk_hist(table, int(record["right"]), nodes, depth + 1)
    return here


def _flatten(trees: Sequence[_Nodes], base: FloatArray) -> Trees:
    starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    shifted = list(zip(trees, starts.tolist(), strict=False))
    return Trees(
        feature=np.array([f for tree in trees for f in tree.feature], dtype=np.int32),
        threshold=np.array([t for tree in trees for t in tree.threshold], dtype=np.float64),
        left=np.array([start + n for tree, start in shifted for n in tree.left], dtype=np.int32),
        right=np.array([start + n for tree, start in shifted for n in tree.right], dtype=np.int32),
        value=np.array([v for tree in trees for v in tree.value], dtype=np.float64),
        roots=starts[:-1].astype(np.int32),
        output=np.zeros(len(trees), dtype=np.int32),
        base=base,
        depth=max((tree.depth for tree in trees), default=0),
    )


def _combine(parts: Sequence[tuple[Trees, int]], base: FloatArray) -> Trees:
    """Put one-output ensembles into one with an output each."""
    base = base.copy()
    offset, columns = 0, {name: [] for name in ("feature", "threshold", "left", "right", "value", "roots", "output")}
    for trees, output in parts:
        base[output] += trees.base[0]
        for name in ("feature", "threshold", "value"):
            columns[name].append(getattr(trees, name))
        for name in ("left", "right", "roots"):
            columns[name].append(getattr(trees, name) + offset)
        columns["output"].append(np.full(len(trees.roots), output))
        offset += len(trees.feature)
    kinds = {"threshold": np.float64, "value": np.float64}
    arrays: dict[str, Any] = {
        name: np.concatenate(arrays).astype(kinds.get(name, np.int32))
        if arrays
        else np.zeros(0, dtype=kinds.get(name, np.int32))
        for name, arrays in columns.items()
    }
    return Trees(**arrays, base=base, depth=max((trees.depth for trees, _ in parts), default=0))


def stack_outputs(parts: Sequence[Trees]) -> Trees:
    """Put one-output ensembles side by side: output j is the j-th ensemble's."""
    return _combine([(trees, j) for j, trees in enumerate(parts)], np.zeros(len(parts)))
