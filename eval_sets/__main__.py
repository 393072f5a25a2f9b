"""`python -m eval_sets seal DIR` writes a set's manifest; `python -m eval_sets verify DIR` checks a sealed set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval_sets.sealing import seal, verify
from modelyard.errors import InvalidEvalSet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m eval_sets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (("seal", "write manifest.json"), ("verify", "check the files against manifest.json")):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("folder", type=Path, metavar="DIR", help="folder of the eval set")
    chosen = parser.parse_args(arguments)
    try:
        manifest = (seal if chosen.command == "seal" else verify)(chosen.folder)
    except InvalidEvalSet as error:
        print(error, file=sys.stderr)
        return 1
    rows = manifest.counts["prompts" if manifest.kind == "tasks" else "documents"]
    done = "sealed" if chosen.command == "seal" else "verified"
    print(f"{done} {chosen.folder}: {rows} {manifest.kind}, {len(manifest.files)} files, version {manifest.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
