"""Trains, judges and registers a router, with every step in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.routers import CANDIDATES, RouterParams, Selection, choose_cost_weight, select, with_cost_weight
from classifiers.trees import booster_library
from experiments.calibration import brier_skill, calibration_error
from experiments.evaluate_router import Evaluation, expected_costs
from experiments.tracking import Run, new_figure, start
from modelyard.catalog import BaseModel, Price
from modelyard.outcomes import OutcomeMatrix
from modelyard.predictors import write_artifact
from modelyard.registry.promotion import register
from modelyard.routing import RouterModel
from modelyard.routing.model import KIND
from modelyard.settings import Settings

EXPERIMENT = "modelyard-router"


@dataclass(frozen=True, slots=True)
class Source:
    """The outcomes that were learned from: their place, hash and prices."""

    path: str
    sha256: str
    prices: Mapping[str, Price]
    known: Mapping[str, BaseModel]


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """A registered router.

    Attributes:
        version: In the registry.
        candidate: The recipe that cross-validation chose.
        metrics: Out-of-fold results in the form of `evaluate-router`.
        run_id: The MLflow run.
    """

    version: str
    router: RouterModel
    candidate: str
    metrics: dict[str, Any]
    run_id: str


def train_and_register(
    matrix: OutcomeMatrix,
    source: Source,
    settings: Settings,
    *,
    candidates: Mapping[str, RouterParams] = CANDIDATES,
    folds: int = 5,
    seed: int = 0,
) -> TrainedRouter:
    """Train every candidate, choose λ, log, and register the best as challenger.

    Raises:
        InvalidInput: There are too few models or prompts.
    """
    tracker = start(settings, EXPERIMENT)  # first: a store that cannot be opened must not cost minutes of training
    selection = select(matrix, candidates, folds=folds, seed=seed)
    evaluation, predictions, expected = _out_of_fold(matrix, selection, source, seed)
    weight = choose_cost_weight(predictions, evaluation.matrix.scores, expected)
    router = with_cost_weight(selection.router, weight)
    metrics = _metrics(evaluation, predictions, expected)
    params = {
        "folds": folds,
        "seed": seed,
        "models": ", ".join(matrix.models),
        "trees": booster_library(),
        "prompts": len(matrix),
    }
    with tracker.run("train-router", params=params) as run:
        run.log_dataset(Path(source.path).name, source.sha256, source.path, "training", len(matrix))
        for name, candidate in candidates.items():
            with tracker.run(name, parent=run, params=flat(asdict(candidate))) as child:
                child.log_metrics({"pair_error": selection.errors[name]})
        _log(run, selection, metrics, weight)
        run.log_figure(_trade_off(evaluation, predictions, expected), "trade_off.png")
        about = {
            "candidate": selection.name,
            "params": asdict(candidates[selection.name]),
            "data_sha256": source.sha256,
            "models": list(matrix.models),
            "prompts": len(matrix),
            "cost_weight": weight,
            "aiq": metrics["aiq"].get("value"),
            "apgr": metrics["apgr"].get("value") if "apgr" in metrics else None,
        }
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "router"
            write_artifact(folder, KIND, router.state(), about)
            version = register("router", folder, run_id=run.id, settings=settings, about=about)
        return TrainedRouter(version, router, selection.name, metrics, run.id)


def _out_of_fold(matrix: OutcomeMatrix, selection: Selection, source: Source, seed: int) -> tuple[Evaluation, Any, Any]:
    whole = np.flatnonzero(~np.isnan(matrix.scores).any(axis=1))
    complete = matrix.take(whole)
    evaluation = Evaluation.of(complete, source.prices, source.known, selection.router.output_tokens, seed=seed)
    expected = expected_costs(complete, source.prices, selection.output_tokens[whole])
    return evaluation, selection.predictions[whole], expected


def _metrics(evaluation: Evaluation, predictions: Any, expected: Any) -> dict[str, Any]:
    scores = evaluation.matrix.scores
    base = np.broadcast_to(scores.mean(axis=0), scores.shape).ravel()
    return {
        **evaluation.judge(predictions, expected),
        "aiq_over_zero_router": evaluation.over_zero(predictions, expected),
        "zero_router_aiq": evaluation.zero_router()["aiq"],
        "ece": calibration_error(predictions.ravel(), scores.ravel()),
        "brier_skill": brier_skill(predictions.ravel(), scores.ravel(), base),
    }


def _log(run: Run, selection: Selection, metrics: Mapping[str, Any], weight: float) -> None:
    numbers = {
        name: found["value"]
        for name, found in metrics.items()
        if isinstance(found, dict) and found["value"] is not None
    }
    numbers |= {name: value for name, value in metrics.items() if isinstance(value, float)}
    run.log_metrics({**numbers, "cost_weight": weight, "pair_error": selection.errors[selection.name]})
    run.log_json(metrics, "out_of_fold.json")
    run.set_tags({"modelyard.candidate": selection.name})


def _trade_off(evaluation: Evaluation, predictions: Any, expected: Any) -> Any:
    figure = new_figure()
    axes = figure.subplots()
    curve = evaluation.curve(predictions, expected)
    axes.plot(1000 * curve.costs[0], curve.scores[0], "o-", markersize=3, label="router, out of fold")
    for j, name in enumerate(evaluation.matrix.models):
        axes.plot(1000 * evaluation.singles.costs[0, j], evaluation.singles.scores[0, j], "s", label=name)
    axes.set_xlabel("USD per 1000 prompts")
    axes.set_ylabel("mean score")
    axes.legend(fontsize="small")
    return figure


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested parameters as one level with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[name] = value
    return flat
