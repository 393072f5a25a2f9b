"""`modelyard db upgrade|current`."""

from __future__ import annotations

import argparse
from typing import Any

from modelyard.settings import current


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("db", help="bring the database's tables up to date, or show their revision")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    upgrade = actions.add_parser("upgrade", help="run the migrations that are missing")
    upgrade.set_defaults(run=_upgrade)
    shown = actions.add_parser("current", help="show the revision, and whether it is the newest")
    shown.set_defaults(run=_current)


def _upgrade(_: argparse.Namespace) -> int:
    from modelyard.storage import Database

    found = Database(current().database)
    before, after = found.revision(), found.migrate()
    found.close()
    print(f"{found.url}: {after}" + (" (nothing to do)" if before == after else f" (was {before or 'empty'})"))
    return 0


def _current(_: argparse.Namespace) -> int:
    from modelyard.storage import Database

    found = Database(current().database)
    revision, head = found.revision(), found.head
    found.close()
    note = "the newest" if revision == head else f"the newest is {head}: run `modelyard db upgrade`"
    print(f"{found.url}: {revision or 'empty'} ({note})")
    return 0
