"""`import-outcomes`: recorded results become an outcome table."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from eval_sets.importers import Columns, import_long, import_routellm, import_wide, parse_mapping
from experiments.report import write_json
from modelyard.errors import InvalidTable
from modelyard.outcomes import concat, write_outcomes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="PATH", help="CSV, TSV, JSONL or parquet; for routellm also a folder"
    )
    parser.add_argument(
        "--layout",
        choices=("long", "wide", "routellm"),
        required=True,
        help="long: a row per prompt × model; wide: a row per prompt, a score column per model; routellm: its published response CSVs",
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="OUTCOME=FILE",
        help="name of a column in the file, such as prompt=question",
    )
    parser.add_argument(
        "--models", default="", help="wide: the score columns, separated by commas; else all that are not mapped"
    )
    parser.add_argument("--dataset", help="the dataset's name where no column has it; the file's name without it")
    parser.add_argument("--domain", help="the domain where no column has it; the dataset without it")
    parser.add_argument("--out", type=Path, required=True, help="outcome table to write, parquet")
    parser.add_argument("--json", type=Path, help="write what was imported here, too")


def run(args: argparse.Namespace) -> int:
    """Import, check and write."""
    columns = Columns(parse_mapping(args.map), args.dataset, args.domain)
    models = tuple(name.strip() for name in args.models.split(",") if name.strip())
    if args.layout == "routellm" and (args.map or models or args.dataset or args.domain):
        raise InvalidTable(
            "The layout routellm has its own columns: leave out --map, --models, --dataset and --domain."
        )
    if args.layout == "long" and models:
        raise InvalidTable("--models names the score columns of a wide table; a long one has a column of models.")
    readers = {
        "long": lambda path: import_long(path, columns),
        "wide": lambda path: import_wide(path, columns, models),
        "routellm": import_routellm,
    }
    table = concat([readers[args.layout](path) for path in args.files], " + ".join(map(str, args.files)))
    write_outcomes(table, args.out)
    rows = Counter(table.column("model").to_pylist())
    prompts = len(set(table.column("prompt_id").to_pylist()))
    write_json(
        args.json,
        {
            "schema": 1,
            "command": "import-outcomes",
            "seed": None,
            "n": prompts,
            "results": {"out": str(args.out), "rows": dict(rows)},
        },
    )
    print(f"{args.out}: {prompts:,} prompts, {table.num_rows:,} rows")
    for model, count in sorted(rows.items()):
        print(f"  {model:<40} {count:>8,}")
    return 0
