"""`modelyard …`: serve, ask, explain, answer files in batches, look after the database, and see whether all is well.

Exit codes: 0 done, 1 something is broken (`doctor`) or without an answer (`batch`), 2 a rule was broken; its sentence stands on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from modelyard.cli import asking, batch, database, doctor, keys, models, serve
from modelyard.errors import ModelyardError
from modelyard.settings import calm_threads, switch_telemetry_off

COMMANDS = (serve, asking, batch, database, doctor, models, keys)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = parser().parse_args(argv)
    switch_telemetry_off()
    calm_threads()
    try:
        return args.run(args)
    except ModelyardError as error:
        print(f"modelyard: {error.in_full}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(prog="modelyard", description="Composite language models: serve them and ask them.")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.configure(commands)
    return root
