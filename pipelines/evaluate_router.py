"""`evaluate-router`: train on outcome tables, route the prompts of another one, and report against baselines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.evaluate_router import evaluate
from experiments.report import envelope, number, show, write_json
from modelyard.catalog import Catalog, Price, load_catalog, load_prices
from modelyard.errors import InvalidInput, InvalidTable
from modelyard.outcomes import OutcomeMatrix, concat, read_outcomes
from modelyard.settings import current


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--train", type=Path, action="append", required=True, help="outcome table to learn from; may be repeated"
    )
    parser.add_argument("--test", type=Path, required=True, help="outcome table to route")
    parser.add_argument("--models", required=True, help="base models, cheapest first, separated by commas")
    parser.add_argument(
        "--prices", type=Path, help="TOML file with a price table per model; the catalogue's serve without it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    models = model_names(args.models)
    catalog = load_catalog(current().catalog)
    prices = prices_for(models, args.prices, catalog)
    train = load_matrix(args.train, models)
    test = OutcomeMatrix.of(read_outcomes(args.test), models, str(args.test)).complete()
    if not len(test):
        raise InvalidTable(f"{args.test} has no prompt that all of {', '.join(models)} answered.")
    results, _, chosen = evaluate(train, test, prices, catalog.models, seed=args.seed)
    report = envelope(
        "evaluate-router",
        seed=args.seed,
        n=len(test),
        results=results,
        models=list(models),
        candidate=chosen,
        trained_on=len(train),
        prices={name: asdict(price) for name, price in prices.items()},
    )
    write_json(args.json, report)
    print(table(report))
    return 0


def model_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of models.

    Raises:
        InvalidInput: Fewer than two models, or one twice.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(names) < 2:
        raise InvalidInput(f"A router chooses between at least two models, but --models names {len(names)}: {text!r}.")
    if len(set(names)) < len(names):
        raise InvalidInput(f"Each model may stand once in --models, got {text!r}.")
    return names


def prices_for(models: tuple[str, ...], path: Path | None, catalog: Catalog) -> dict[str, Price]:
    """Return every model's price, from the file first and the catalogue else."""
    own = load_prices(path) if path is not None else {}
    return {name: own[name] if name in own else catalog.price(name) for name in models}


def load_matrix(paths: list[Path], models: tuple[str, ...]) -> OutcomeMatrix:
    """Join outcome tables into one matrix; a model may be missing from some tables, but not from all."""
    where = " + ".join(map(str, paths))
    return OutcomeMatrix.of(concat([read_outcomes(path) for path in paths], where), models, where)


def table(report: Mapping[str, Any]) -> str:
    """Return the results as a table for the screen."""
    columns = [
        name
        for name in ("apgr", "cpt50", "cpt80", "aiq", "saving_95", "saving_99")
        if name in report["results"]["router"]
    ]
    lines = [f"{'':<14}" + "".join(f"{name:>24}" for name in columns)]
    for router, found in report["results"].items():
        lines.append(f"{router:<14}" + "".join(f"{show(found[name]):>24}" for name in columns))
    own = report["results"]["router"]
    over = show(own["aiq_over_zero_router"], 4)
    lines.append(
        f"\nAIQ over the zero router {over}; calibration error {number(own['ece'])}; Brier skill {number(own['brier_skill'])}"
    )
    lines.append(
        f"one decision: p50 {own['decision_us']['p50']:.0f} µs, p99 {own['decision_us']['p99']:.0f} µs; n = {report['n']}"
    )
    return "\n".join(lines)
