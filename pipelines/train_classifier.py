"""`train-classifier`: learn a task classifier from labelled prompts, log it, and register it as challenger."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from classifiers.tasks import CANDIDATES, candidates_for
from eval_sets import load_tasks
from experiments.classifier_ab import compare_with_serving
from experiments.labelled import read_labelled
from experiments.report import envelope, write_json
from experiments.train_classifier import Labels, TrainedClassifier, train_and_register
from modelyard.errors import InvalidInput
from modelyard.registry.champions import load_champion
from modelyard.settings import current

WEB_TASKS: Final = Path(__file__).parents[1] / "eval_sets" / "web_tasks"  # found from any folder
HEADS: Final = ("domain", "complexity")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--eval-set", type=Path, default=WEB_TASKS, help="labelled eval set (default: web_tasks)")
    source.add_argument(
        "--table", type=Path, help="labelled table instead: parquet, CSV or JSONL with prompt_id, prompt and the labels"
    )
    parser.add_argument(
        "--labels", default="domain,complexity", help="the table's label columns (default: domain,complexity)"
    )
    parser.add_argument(
        "--candidate", choices=tuple(CANDIDATES), help="train one recipe only (default: cross-validation chooses)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.02, help="largest loss of accuracy that counts as not worse (default: 0.02)"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Train, register and report."""
    settings = current()
    load_champion("classifier", settings)  # one that is damaged is said now, not after minutes of training
    labels = labels_of_table(args.table, args.labels) if args.table else labels_of_eval_set(args.eval_set)
    candidates = {args.candidate: candidates_for(len(labels.prompts))[args.candidate]} if args.candidate else None
    trained = train_and_register(labels, settings, candidates=candidates, folds=args.folds, seed=args.seed)
    _, verdict = compare_with_serving(trained, labels, settings, margin=args.margin, folds=args.folds, seed=args.seed)
    results = {"version": trained.version, "candidate": trained.candidate, "run_id": trained.run_id, **trained.metrics}
    verdicts = {"challenger": verdict.to_json()}
    write_json(
        args.json,
        envelope("train-classifier", seed=args.seed, n=len(labels.prompts), results=results, verdicts=verdicts),
    )
    print(
        f"{text_of(trained)}\n{verdict.sentence}\nto promote: python -m pipelines promote --component classifier --run {verdict.run_id}"
    )
    return 0


def labels_of_eval_set(folder: Path) -> Labels:
    """Read domain and complexity of an eval set."""
    rows = load_tasks(folder).rows
    heads = {"domain": tuple(row.domain for row in rows), "complexity": tuple(row.complexity for row in rows)}
    return Labels(tuple(row.id for row in rows), tuple(row.prompt for row in rows), heads, str(folder))


def labels_of_table(path: Path, columns: str) -> Labels:
    """Read the label columns of a table."""
    names = [name.strip() for name in columns.split(",") if name.strip()]
    if not names:
        raise InvalidInput(f"--labels must name at least one column, got {columns!r}.")
    for name in names:
        if name not in HEADS:
            raise InvalidInput(f"--labels must be among {', '.join(HEADS)}, which serving asks for, but got {name!r}.")
    read = {name: read_labelled(path, name) for name in names}
    first = read[names[0]]
    return Labels(first.ids, first.prompts, {name: found.labels for name, found in read.items()}, str(path))


def text_of(trained: TrainedClassifier) -> str:
    """Return the report for the screen."""
    origin = f"recipe {trained.candidate}, run {trained.run_id}"
    lines = [f"classifier version {trained.version} is registered as challenger ({origin})", "out of fold:"]
    for head, found in trained.metrics.items():
        ece = "–" if found["ece"] is None else f"{found['ece']:.3f}"
        skill = "–" if found["brier_skill"] is None else f"{found['brier_skill']:.3f}"
        lines.append(
            f"  {head:<11} macro-F1 {found['macro_f1']:.3f}  accuracy {found['accuracy']:.3f}  calibration error {ece}  Brier skill {skill}"
        )
        for name, scores in found["baselines"].items():
            shown = "  ".join(f"{key.replace('_', '-')} {value:.3f}" for key, value in scores.items())
            lines.append(f"    beside {name:<12} {shown}")
    return "\n".join(lines)
