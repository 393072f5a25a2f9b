"""`train-router`: learn a router from outcome tables, log it, and register it as challenger."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from classifiers.routers import CANDIDATES
from experiments.report import envelope, number, show, write_json
from experiments.splits import rows_in
from experiments.train_router import Source, TrainedRouter, train_and_register
from modelyard.catalog import Catalog, Price, load_catalog
from modelyard.outcomes import OutcomeMatrix, concat, read_outcomes
from modelyard.settings import current
from pipelines.evaluate_router import model_names, prices_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--outcomes", type=Path, action="append", required=True, help="outcome table; may be repeated")
    parser.add_argument("--models", help="base models, cheapest first (default: all of the tables, by price)")
    parser.add_argument("--prices", type=Path, help="TOML file with a price table per model")
    parser.add_argument(
        "--part",
        choices=("all", "train"),
        default="all",
        help="learn from all prompts, or leave out the test part",
    )
    parser.add_argument(
        "--candidate", choices=tuple(CANDIDATES), help="train one recipe only (default: cross-validation chooses)"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Train, register and report."""
    settings = current()
    catalog = load_catalog(settings.catalog)
    candidates = {args.candidate: CANDIDATES[args.candidate]} if args.candidate else CANDIDATES
    names = model_names(args.models) if args.models else None
    matrix, source = read_source(args.outcomes, names, catalog, part=args.part, prices=args.prices)
    trained = train_and_register(matrix, source, settings, candidates=candidates, folds=args.folds, seed=args.seed)
    write_json(args.json, report_of(trained, args.seed))
    print(text_of(trained))
    return 0


def read_source(
    paths: Sequence[Path],
    names: tuple[str, ...] | None,
    catalog: Catalog,
    *,
    part: str = "all",
    prices: Path | None = None,
) -> tuple[OutcomeMatrix, Source]:
    """Read and price outcome tables; the matrix's models are ordered by price."""
    where = " + ".join(map(str, paths))
    table = concat([read_outcomes(path) for path in paths], where)
    names = names or tuple(sorted(set(table.column("model").to_pylist())))
    priced = prices_for(names, prices, catalog)
    ordered = tuple(sorted(names, key=lambda name: _price_order(priced[name])))
    matrix = OutcomeMatrix.of(table, ordered, where)
    matrix = matrix.take(rows_in(matrix.prompt_ids, part))
    return matrix, Source(where, _hash(paths), {name: priced[name] for name in ordered}, catalog.models)


def report_of(trained: TrainedRouter, seed: int) -> dict[str, Any]:
    """Return the report as JSON-ready facts."""
    facts = {"version": trained.version, "candidate": trained.candidate, "run_id": trained.run_id}
    results = {"router": trained.metrics, **facts, "cost_weight": trained.router.cost_weight}
    n = len(trained.router.first.memory.scores)
    return envelope("train-router", seed=seed, n=n, results=results, models=list(trained.router.models))


def text_of(trained: TrainedRouter) -> str:
    """Return the report for the screen."""
    found = trained.metrics
    origin = f"recipe {trained.candidate}, run {trained.run_id}"
    lines = [f"router version {trained.version} is registered as challenger ({origin})", "out of fold:"]
    for name in ("apgr", "cpt50", "cpt80", "aiq", "aiq_over_zero_router", "saving_95", "saving_99"):
        if name in found:
            lines.append(f"  {name:<22}{show(found[name])}")
    lines.append(f"  {'calibration error':<22}{number(found['ece'])}")
    lines.append(f"  λ = {trained.router.cost_weight:g} score per USD")
    return "\n".join(lines)


def _price_order(price: Price) -> tuple[float, ...]:
    return (price.cost(200, 250), *asdict(price).values())


def _hash(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
