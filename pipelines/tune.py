"""`tune`: search classifier or router parameters with Optuna, every trial a run in MLflow."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classifiers.routers import RouterParams
from classifiers.search_spaces import (
    ROUTER_SPACE,
    TASK_SPACE,
    Space,
    router_params,
    router_values,
    task_params,
    task_values,
)
from classifiers.tasks import TaskParams
from eval_sets import load_tasks
from experiments.objectives import Objective, RouterObjective, TaskObjective
from experiments.report import envelope, write_json
from experiments.splits import PARTS, take_part
from experiments.studies import StudyPlan
from experiments.tracking import start
from experiments.tuning import Tuned, tune
from modelyard.catalog import load_catalog, realised_costs
from modelyard.errors import InvalidInput
from modelyard.outcomes import OutcomeMatrix, read_outcomes
from modelyard.registry.champions import COMPONENTS
from modelyard.settings import current
from pipelines.ab_test import file_hash
from pipelines.evaluate_router import model_names, prices_for

EXPERIMENT = "tuning"


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: the objective with its space, the metric, the defaults to begin with, and the data's name, hash and size."""

    objective: Objective
    space: Space
    metric: str
    begin: dict[str, Any]
    data: tuple[str, str, int]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--component", required=True, choices=COMPONENTS)
    parser.add_argument("--eval-set", type=Path, help="folder of labelled prompts (classifier)")
    parser.add_argument("--outcomes", type=Path, help="outcome table (router)")
    parser.add_argument("--models", help="base models, by commas (router)")
    parser.add_argument("--prices", type=Path, help="TOML file with a price table per model (router)")
    parser.add_argument(
        "--split", choices=PARTS, default="train", help="part of the table to tune on (router; default: train)"
    )
    parser.add_argument("--metric", help="default: log_loss for the classifier, quality for the router")
    parser.add_argument("--trials", type=int, default=20, help="trials that the study has in the end (default: 20)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes that compute trials (default: 1)")
    parser.add_argument(
        "--study", help="the study's name; the same name goes on with it (default: from component and data)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the result here, too")


def run(args: argparse.Namespace) -> int:
    """Search, log, and print what was found."""
    search = classifier_search(args) if args.component == "classifier" else router_search(args)
    name, digest, n = search.data
    metric = args.metric or search.metric
    plan = StudyPlan(
        name=args.study or f"{args.component}-{digest[:12]}-{metric}-{args.seed}",
        metric=metric,
        direction="minimize" if "loss" in metric or "error" in metric else "maximize",
        trials=args.trials,
        start=search.begin,
        seed=args.seed,
        workers=args.workers,
    )
    tracker = start(current(), EXPERIMENT)
    found = tune(search.objective, search.space, plan, tracker)
    with tracker.resume(found.run_id) as parent:
        parent.log_dataset(name, digest, name, context="training", rows=n)
    params = task_params(found.values) if args.component == "classifier" else router_params(found.values)
    report = envelope(
        "tune",
        seed=args.seed,
        n=n,
        results=found.to_json(),
        component=args.component,
        metric=metric,
        params=asdict(params),
    )
    write_json(args.json, report)
    print(summary(found, metric))
    return 0


def classifier_search(args: argparse.Namespace) -> Search:
    """Return the search over classifier parameters on a labelled set.

    Raises:
        InvalidInput: No eval set was named.
    """
    if args.eval_set is None:
        raise InvalidInput("Tuning a classifier needs --eval-set, a folder of labelled prompts.")
    tasks = load_tasks(args.eval_set)
    labels = {
        "domain": tuple(row.domain for row in tasks.rows),
        "complexity": tuple(row.complexity for row in tasks.rows),
    }
    objective = TaskObjective(tuple(row.prompt for row in tasks.rows), labels, folds=args.folds, seed=args.seed)
    return Search(objective, TASK_SPACE, "log_loss", task_values(TaskParams()), (tasks.name, tasks.version, len(tasks)))


def router_search(args: argparse.Namespace) -> Search:
    """Return the search over router parameters on an outcome table.

    Raises:
        InvalidInput: No table or no models were named.
    """
    if args.outcomes is None or args.models is None:
        raise InvalidInput("Tuning a router needs --outcomes, an outcome table, and --models, names by commas.")
    models, catalog = model_names(args.models), load_catalog(current().catalog)
    matrix = take_part(OutcomeMatrix.of(read_outcomes(args.outcomes), models, str(args.outcomes)), args.split)
    costs = realised_costs(matrix, prices_for(models, args.prices, catalog), catalog.models)
    objective = RouterObjective(matrix, costs, folds=args.folds, seed=args.seed)
    digest = file_hash(args.outcomes)
    return Search(
        objective, ROUTER_SPACE, "quality", router_values(RouterParams()), (args.outcomes.stem, digest, len(matrix))
    )


def summary(found: Tuned, metric: str) -> str:
    """Return what was found as a person reads it."""
    values = "\n".join(
        f"  {name:<22} {value:.4g}" if isinstance(value, float) else f"  {name:<22} {value}"
        for name, value in found.values.items()
    )
    failed = f", {found.failed} failed" if found.failed else ""
    return (
        f"study {found.study}: {len(found.history)} trials{failed}; {metric} {found.best:.4f}, the first trial's {found.first:.4f}\n"
        f"{values}\nMLflow run {found.run_id}"
    )
