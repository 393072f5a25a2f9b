"""`evaluate-retrieval`: build the index on a BEIR-style collection, search its queries, and report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.beir import read_collection
from experiments.report import envelope, show, write_json
from experiments.retrieval_eval import METRICS, evaluate
from modelyard.retrieval import Index


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--collection", type=Path, required=True, help="folder with corpus.jsonl[.gz], queries.jsonl and qrels.tsv"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here, too")


def run(args: argparse.Namespace) -> int:
    """Evaluate and report."""
    collection = read_collection(args.collection)
    index = Index.build(collection.documents)
    report = evaluate(index, collection.queries, collection.qrels, seed=args.seed)
    results: dict[str, Any] = {**report.to_json(), "embedder": index.lsa.fingerprint}
    write_json(args.json, envelope("evaluate-retrieval", seed=args.seed, n=report.n, results=results))
    times = results["query_ms"]
    print(f"{args.collection}: {len(index.documents)} documents, {len(index)} passages, {report.n} queries")
    for metric in METRICS:
        print(f"  {metric:<10} {show(results[metric])}")
    print(f"  {'query ms':<10} p50 {times['p50']:.2f}, p99 {times['p99']:.2f}")
    print(f"  {'embedder':<10} {results['embedder']}")
    return 0
