"""Finds the command's module, gives it a parser, runs it, and turns errors of ours and of files into one sentence and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from modelyard.errors import ModelyardError
from modelyard.settings import calm_threads, current, switch_telemetry_off
from pipelines.checks import Parser, check_options

# Command -> one line of help. The module is the command's name with underscores; it is imported only when it runs.
COMMANDS = {
    "demo": "run the whole experiment cycle on the embedded defaults",
    "build-index": "build the retrieval index from a folder of documents",
    "collect-outcomes": "run base models over an eval set and record score, cost and latency",
    "import-outcomes": "turn recorded results (CSV, JSONL, parquet) into an outcome table",
    "train-classifier": "train, compare and register task classifiers",
    "train-router": "train, cross-validate and register routers",
    "tune": "search classifier or router parameters with Optuna",
    "ab-test": "compare policies on the same prompts, with intervals and a verdict",
    "promote": "make a registered version the champion, through the gate",
    "rollback": "bring back the champion before",
    "history": "show who changed which champion, when and why",
    "evaluate-router": "judge a learned router on outcomes it has not seen",
    "evaluate-classifier": "judge a task classifier on prompts it has not seen",
    "evaluate-retrieval": "judge the retrieval index on a BEIR-style collection",
}


def parser_for(command: str) -> argparse.ArgumentParser:
    """Return the command's own parser."""
    parser = Parser(prog=f"python -m pipelines {command}", description=COMMANDS[command].capitalize() + ".")
    importlib.import_module(f"pipelines.{command.replace('-', '_')}").configure(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it went well, 1 when it ran and the answer is no, 2 for bad input.
    """
    switch_telemetry_off()
    calm_threads()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m pipelines COMMAND [options]\n\ncommands:")
        print("\n".join(f"  {name:<20} {text}" for name, text in COMMANDS.items()))
        return 0 if words else 2
    command = words[0]
    if command not in COMMANDS:
        print(f"pipelines: there is no command {command!r}; there are {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        return run(command, words[1:])
    except ModelyardError as error:
        print(f"pipelines: {error.in_full}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"pipelines: {os.fsdecode(error.filename)} cannot be used: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pipelines: interrupted; what was finished is kept.", file=sys.stderr)
        return 130


def run(command: str, words: Sequence[str]) -> int:
    """Parse the options, check them, and run the command."""
    args = parser_for(command).parse_args(words)
    check_options(command, args, current())
    return importlib.import_module(f"pipelines.{command.replace('-', '_')}").run(args)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # so that open MLflow runs are closed
    sys.exit(main())
