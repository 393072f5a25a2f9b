"""`evaluate-classifier`: train on labelled prompts, predict the prompts of another table, and report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.selection import select
from experiments.evaluate_classifier import judge
from experiments.labelled import LabelledPrompts, read_labelled
from experiments.report import envelope, write_json
from modelyard.embedding.minilm import load_minilm
from modelyard.errors import InvalidTable
from modelyard.settings import current
from modelyard.tasks import LearnedClassifier


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--train",
        type=Path,
        required=True,
        help="parquet, CSV or JSONL with prompt_id, prompt and the label",
    )
    parser.add_argument("--test", type=Path, required=True, help="table to predict")
    parser.add_argument("--label", default="domain", help="the label's column (default: domain)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    train, test = read_labelled(args.train, args.label), read_labelled(args.test, args.label)
    selection = select(train.prompts, {args.label: train.labels}, seed=args.seed, sentences=load_minilm(current()))
    results = judge_on(selection.classifier, test, args.label, str(args.test))
    report = envelope(
        "evaluate-classifier",
        seed=args.seed,
        n=len(test.prompts),
        results=results,
        candidate=selection.name,
        label=args.label,
    )
    write_json(args.json, report)
    ece = "–" if results["ece"] is None else f"{results['ece']:.3f}"
    print(
        f"{args.label}: accuracy {results['accuracy']:.3f}, macro-F1 {results['macro_f1']:.3f}, calibration error {ece}, n = {report['n']}"
    )
    for name, row in results["per_class"].items():
        print(
            f"  {name:<28} precision {row['precision']:.2f}  recall {row['recall']:.2f}  F1 {row['f1']:.2f}  n {row['n']}"
        )
    return 0


def judge_on(classifier: LearnedClassifier, test: LabelledPrompts, label: str, where: str) -> dict[str, Any]:
    """Predict and judge; a test label that training never saw counts as missed.

    Raises:
        InvalidTable: No test label is known to the classifier.
    """
    head = classifier.heads[label]
    probabilities = classifier.many(test.prompts)[label]
    unseen = sorted(set(test.labels) - set(head.classes))
    if len(unseen) == len(set(test.labels)):
        raise InvalidTable(
            f"{where}: none of the labels {', '.join(unseen)} in column {label!r} occurs in the training table."
        )
    classes = (*head.classes, *unseen)
    padded = np.hstack([probabilities, np.zeros((len(probabilities), len(unseen)))])
    index = {name: c for c, name in enumerate(classes)}
    return judge(padded, np.array([index[name] for name in test.labels]), classes)
