"""`promote`: make a registered version the champion, if the verdict about it lets it through the gate."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path

from experiments.tracking import read_json
from modelyard.errors import InvalidInput
from modelyard.registry.champions import COMPONENTS
from modelyard.registry.promotion import promote
from modelyard.registry.verdict import Verdict, read_verdict
from modelyard.settings import Settings, current


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--component", required=True, choices=COMPONENTS)
    parser.add_argument("--version", help="the version to promote (default: the one that the verdict is about)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--verdict", type=Path, help="a verdict's JSON file, or the JSON report of ab-test")
    source.add_argument("--run", help="the MLflow run of the comparison that the verdict is in")
    parser.add_argument("--challenger", help="which challenger's verdict, where there are several")
    parser.add_argument("--who", help="who promotes (default: the user)")
    parser.add_argument("--reason", help="one sentence (default: the verdict's)")


def run(args: argparse.Namespace) -> int:
    """Promote and say what serves now."""
    settings = current()
    verdict = find_verdict(args, settings)
    version = args.version or verdict.challenger_version
    if version is None:
        raise InvalidInput(f"The verdict is about {verdict.challenger}, which is not registered: register it first.")
    reason = args.reason or verdict.sentence
    entry = promote(args.component, version, who=args.who or user(), reason=reason, verdict=verdict, settings=settings)
    before = f", before it {entry.move.from_version}" if entry.move.from_version else ", the first of all"
    print(f"{args.component} {version} is the champion{before}. {verdict.sentence}")
    return 0


def find_verdict(args: argparse.Namespace, settings: Settings) -> Verdict:
    """Read the verdict that the options name.

    Raises:
        InvalidInput: There is none, or there are several and none was chosen.
    """
    where = str(args.verdict) if args.verdict else f"The run {args.run}"
    if args.verdict:
        try:
            facts = json.loads(args.verdict.read_text("utf-8"))
        except (OSError, ValueError):
            return read_verdict(args.verdict)  # says what is wrong
    else:
        facts = read_json(settings, args.run, "comparison.json")
    if not isinstance(facts, dict) or "verdicts" not in facts:
        return Verdict.from_json(facts, where)
    names = list(facts["verdicts"])
    chosen = args.challenger or (names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise InvalidInput(f"{where} has verdicts about {', '.join(names)}: choose one with --challenger.")
    return Verdict.from_json(facts["verdicts"][chosen], where)


def user() -> str:
    """Return the name of who runs this, as far as the system knows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry for this user id, as in containers
        return "unknown user"
