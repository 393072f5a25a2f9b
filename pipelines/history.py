"""`history`: who changed which champion, when and why."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.report import write_json
from modelyard.registry.champions import COMPONENTS
from modelyard.registry.promotion import HistoryEntry, history
from modelyard.settings import current


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--component", choices=COMPONENTS, help="only this one's")
    parser.add_argument("--json", type=Path, help="write the history here, too")


def run(args: argparse.Namespace) -> int:
    """Print the moves, newest first."""
    entries = history(args.component, current())
    write_json(args.json, {"schema": 1, "command": "history", "moves": [facts(entry) for entry in entries]})
    if not entries:
        print("Nothing was promoted yet.")
    for entry in entries:
        print(line(entry))
    return 0


def facts(entry: HistoryEntry) -> dict[str, Any]:
    """Return a move JSON-ready."""
    return {**asdict(entry.move), "at": entry.move.at.isoformat(), "took_effect": entry.took_effect}


def line(entry: HistoryEntry) -> str:
    """Return a move as a person reads it."""
    move = entry.move
    runs = f" (runs {', '.join(move.run_ids)})" if move.run_ids else ""
    broken = "" if entry.took_effect else " — DID NOT TAKE EFFECT"
    return (
        f"{move.at:%Y-%m-%d %H:%M:%S} UTC  {move.component:<10} {move.from_version or '–'} → {move.to_version}  "
        f"{move.action} by {move.who}: {move.reason}{runs}{broken}"
    )
