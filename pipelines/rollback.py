"""`rollback`: bring back the champion before."""

from __future__ import annotations

import argparse

from modelyard.registry.champions import COMPONENTS
from modelyard.registry.promotion import rollback
from modelyard.settings import current
from pipelines.promote import user


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--component", required=True, choices=COMPONENTS)
    parser.add_argument("--who", help="who rolls back (default: the user)")
    parser.add_argument("--reason", required=True, help="one sentence")


def run(args: argparse.Namespace) -> int:
    """Roll back and say what serves now."""
    entry = rollback(args.component, who=args.who or user(), reason=args.reason, settings=current())
    print(f"{args.component} {entry.move.to_version} is the champion again; {entry.move.from_version} was rolled back.")
    return 0
