"""`collect-outcomes`: run base models over an eval set and record score, cost and latency."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from eval_sets import TaskSet, load_tasks
from experiments.collect import Call, Collection, Collector, calls_for, outcome_table
from experiments.journal import Journal
from experiments.report import envelope, write_json
from modelyard.catalog import BaseModel, Catalog, load_catalog
from modelyard.errors import GenerationError, InvalidInput, InvalidSetting, UnknownModel
from modelyard.generation import make_generator
from modelyard.outcomes import write_outcomes
from modelyard.retrieval import Index, current_index
from modelyard.settings import Settings, current
from modelyard.upstream import Retries, Upstream

EVAL_SET: Final = Path(__file__).parents[1] / "eval_sets" / "web_tasks"
PASSAGES: Final = 4  # before each prompt, as the composites put them
PATIENCE: Final = Retries(
    attempts=6, wait_initial_s=0.5, wait_max_s=20.0, grace_s=20.0
)  # nobody waits for a single answer here
REASONS: Final = 5  # failures that are shown; the JSON has all


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--eval-set", type=Path, default=EVAL_SET, metavar="DIR", help="eval set of prompts (default: web_tasks)"
    )
    parser.add_argument("--models", help="base models of the catalogue, separated by commas (default: the local ones)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="outcome table to write; PATH.journal.jsonl is beside it",
    )
    parser.add_argument(
        "--max-cost-usd", type=float, metavar="X", help="ceiling for the whole table, earlier runs included"
    )
    parser.add_argument("--concurrency", type=int, default=8, metavar="N", help="calls at a time (default: 8)")
    parser.add_argument("--index", type=Path, metavar="DIR", help="retrieval index (default: the current one)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Collect, write the table, report.

    Raises:
        BudgetExceeded: The ceiling was reached; what was paid for is in the table and in the journal.
    """
    if args.max_cost_usd is not None and not args.max_cost_usd >= 0.0:
        raise InvalidInput(f"--max-cost-usd must be a number ≥ 0, got {args.max_cost_usd}.")
    settings = current()
    tasks = load_tasks(args.eval_set)
    models = chosen_models(load_catalog(settings.catalog), args.models)
    index = index_for(models, args.index, settings)
    calls = calls_for(tasks, models, f"{index.version}/{PASSAGES}" if index else "")
    found = asyncio.run(collect(calls, index, settings, args))
    if not found.entries:
        raise found.stopped or GenerationError(
            f"No model answered any prompt; the first said: {found.failures[0].reason}"
        )
    table = outcome_table(tasks, found.entries, str(args.out))
    write_outcomes(table, args.out)
    report = report_of(args, tasks, models, found, table)
    write_json(args.json, report)
    print(text_of(report))
    if found.stopped:
        raise found.stopped
    return 0


async def collect(
    calls: tuple[Call, ...], index: Index | None, settings: Settings, args: argparse.Namespace
) -> Collection:
    """Make the calls with a progress bar."""
    models = {call.model.name: call.model for call in calls}
    searched: dict[str, Any] = {}

    def retrieve(prompt: str) -> Any:
        if index is not None and prompt not in searched:
            searched[prompt] = index.search(prompt, PASSAGES)
        return searched.get(prompt, ())

    journal_path = args.out.with_name(f"{args.out.name}.journal.jsonl")
    async with Upstream(settings.upstream_timeout_s, PATIENCE) as upstream:
        generators = {name: make_generator(model, index=index, upstream=upstream) for name, model in models.items()}
        with (
            Journal(journal_path) as journal,
            tqdm(total=len(calls), unit="call", desc="collect", disable=None) as progress,
        ):
            collector = Collector(generators, retrieve, journal, args.max_cost_usd)
            return await collector.run(calls, args.concurrency, progress)


def chosen_models(catalog: Catalog, names: str | None) -> tuple[BaseModel, ...]:
    """Return the models of a comma-separated list, or the served local ones.

    Raises:
        UnknownModel: A name is not in the catalogue, or the model cannot draft answers.
        InvalidInput: A name stands twice.
    """
    if names is None:
        return tuple(model for model in catalog.models.values() if model.served and model.kind == "local")
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if len(set(wanted)) < len(wanted):
        raise InvalidInput(f"Each model may stand once in --models, got {names!r}.")
    models = tuple(catalog.model(name) for name in wanted)
    for model in models:
        if not model.served:
            raise UnknownModel(
                f"No deployment serves the model {model.name!r}; served here are {', '.join(catalog.served)}."
            )
    return models


def index_for(models: tuple[BaseModel, ...], folder: Path | None, settings: Settings) -> Index | None:
    """Return the index that answers lean on.

    Raises:
        InvalidSetting: Local models have no index to answer from.
    """
    index = Index.load(folder) if folder is not None else current_index(settings)
    local = [model.name for model in models if model.kind == "local"]
    if index is None and local:
        raise InvalidSetting(
            f"The local model {local[0]!r} answers from a retrieval index, and none is built: run build-index, or name one with --index."
        )
    return index


def report_of(
    args: argparse.Namespace, tasks: TaskSet, models: tuple[BaseModel, ...], found: Collection, table: pa.Table
) -> dict[str, Any]:
    """Return the facts that the screen shows."""
    names, scores = np.array(table.column("model").to_pylist()), table.column("score").to_numpy()
    costs, latencies = table.column("cost_usd").to_numpy(), table.column("latency_ms").to_numpy()
    by_model: dict[str, Any] = {}
    for model in models:
        rows = names == model.name
        failed = sum(failure.model == model.name for failure in found.failures)
        by_model[model.name] = {"answers": int(rows.sum()), "failed": failed}
        if rows.any():
            by_model[model.name] |= {
                "score": float(scores[rows].mean()),
                "cost_usd": float(costs[rows].sum()),
                "latency_ms": {
                    "p50": float(np.median(latencies[rows])),
                    "p99": float(np.percentile(latencies[rows], 99)),
                },
            }
    results = {
        "out": str(args.out),
        "eval_set": {
            "name": tasks.name,
            "version": tasks.version,
            "prompts": len(tasks),
            "checkable": len(tasks.checkable),
        },
        "models": by_model,
        "resumed": found.resumed,
        "spent_usd": found.spent_usd,
        "failures": [{"prompt_id": f.prompt_id, "model": f.model, "reason": f.reason} for f in found.failures],
        "stopped": str(found.stopped) if found.stopped else None,
    }
    return envelope("collect-outcomes", seed=0, n=len(set(table.column("prompt_id").to_pylist())), results=results)


def text_of(report: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    results = report["results"]
    lines = [
        f"{results['out']}: {report['n']} prompts of {results['eval_set']['name']} ({results['eval_set']['version'][:12]})"
    ]
    lines.append(f"{'model':<32} {'answers':>8} {'failed':>7} {'score':>7} {'USD':>10} {'p50 ms':>9}")
    for name, row in results["models"].items():
        score = (
            f"{row['score']:.3f} {row['cost_usd']:>10.5f} {row['latency_ms']['p50']:>9.1f}" if "score" in row else "–"
        )
        lines.append(f"{name:<32} {row['answers']:>8} {row['failed']:>7}   {score}")
    lines.append(f"{results['resumed']} answers were there already; this run paid {results['spent_usd']:.5f} USD")
    for failure in results["failures"][:REASONS]:
        lines.append(f"failed: {failure['model']} on {failure['prompt_id']}: {failure['reason']}")
    if results["failures"]:
        lines.append(f"{len(results['failures'])} calls failed; the same command tries them again")
    return "\n".join(lines)
