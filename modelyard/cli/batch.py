"""`modelyard batch`: a file of requests in, a file of answers out, through an endpoint's batches at their price."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelyard.errors import InvalidInput, InvalidSetting, UnknownModel
from modelyard.settings import Settings, current

if TYPE_CHECKING:
    from modelyard.catalog import BaseModel, Catalog, Deployment
    from modelyard.cli.batch_run import Run
    from modelyard.storage import Database

SHOWN: Final = 5  # failures on the screen; the JSON has all
MOST_AT_ONCE: Final = 64


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "batch",
        help="get a file of requests answered through an endpoint's batch API",
        description="Gets a file of requests answered through an endpoint's batch API, at its price. The same command goes on after an "
        "interruption, takes home what has ended, and tries again what failed.",
    )
    parser.add_argument(
        "requests", type=Path, metavar="REQUESTS", help="JSONL: bodies of requests, or lines of OpenAI's batch files"
    )
    parser.add_argument(
        "--model", required=True, help="a base model of the catalogue; stands in the place of the bodies'"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="JSONL of answers; PATH.state.json is beside it"
    )
    parser.add_argument("--deployment", metavar="NAME", help="which deployment of the model (default: the first one)")
    parser.add_argument("--project", metavar="NAME", help="the project that it is charged to")
    parser.add_argument(
        "--max-cost-usd", type=float, metavar="X", help="ceiling for all answers, earlier runs included"
    )
    parser.add_argument(
        "--every", type=float, default=30.0, metavar="S", help="seconds between two looks (default: 30)"
    )
    parser.add_argument("--no-wait", action="store_true", help="send or look, and leave; the same command looks again")
    parser.add_argument(
        "--without-batch-api", action="store_true", help="send the requests one by one, at the full price"
    )
    parser.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="calls at a time, one by one (default: 8)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the same facts to a JSON file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from modelyard.catalog.manager import ModelManager
    from modelyard.cli.batch_files import Answers, read_requests
    from modelyard.cli.batch_run import Run
    from modelyard.storage import Database

    _check(args)
    settings = current()
    database = Database(settings.database)
    try:
        database.migrate()
        model, deployment = _chosen(ModelManager(settings.catalog, database).catalog, args)
        requests, project = (
            read_requests(args.requests, "messages" if model.drafts else "input"),
            _project(database, args.project),
        )
        with Answers(args.out) as answers:
            run = Run(requests, answers, model, deployment, database, project, args.max_cost_usd, _say)
            resumed = run.resume(one_by_one=args.without_batch_api)
            done = asyncio.run(_answered(run, args, settings))
            facts = _facts(run, args, resumed)
            if done:
                answers.settle()
    finally:
        database.close()
    _write(args.json, facts)
    print(_text(facts, str(args.out)))
    if run.stopped:
        raise run.stopped
    return 1 if done and facts["results"]["failed"] + facts["results"]["unanswered"] else 0


async def _answered(run: Run, args: argparse.Namespace, settings: Settings) -> bool:
    from modelyard.cli.batch_run import by_batches
    from modelyard.cli.batch_single import PATIENCE, one_by_one
    from modelyard.upstream import Upstream

    await run.begin()
    if not args.without_batch_api:
        return await by_batches(run, every_s=args.every, wait=not args.no_wait)
    async with Upstream(settings.upstream_timeout_s, PATIENCE) as upstream:
        await one_by_one(run, upstream, concurrency=args.concurrency)
    return True


def _check(args: argparse.Namespace) -> None:
    """Check the numbers.

    Raises:
        InvalidInput: One cannot be.
    """
    if args.max_cost_usd is not None and not args.max_cost_usd >= 0.0:
        raise InvalidInput(f"--max-cost-usd must be a number ≥ 0, got {args.max_cost_usd}.")
    if not args.every > 0.0:
        raise InvalidInput(f"--every must be a number of seconds above 0, got {args.every}.")
    if not 1 <= args.concurrency <= MOST_AT_ONCE:
        raise InvalidInput(f"--concurrency must be 1 to {MOST_AT_ONCE}, got {args.concurrency}.")


def _chosen(catalog: Catalog, args: argparse.Namespace) -> tuple[BaseModel, Deployment]:
    """Return the model and where it is reached.

    Raises:
        UnknownModel: There is none of that name, or it is switched off.
        InvalidInput: It has no endpoint, or no such deployment, or is asked for what it cannot do.
    """
    model = catalog.model(args.model)
    if model.kind != "openai":
        raise InvalidInput(f"A batch needs a model behind an endpoint, and {model.name!r} has none.")
    if args.without_batch_api and not model.drafts:
        raise InvalidInput(
            f"--without-batch-api is for chat; {model.name!r} answers at /v1/embeddings or /v1/moderations."
        )
    places = [place for place in model.deployments if place.enabled]
    if not (model.enabled and places):
        raise UnknownModel(f"The model {model.name!r} is switched off.")
    if args.deployment is None:
        return model, places[0]
    for place in places:
        if place.name == args.deployment:
            return model, place
    known = ", ".join(place.name for place in places)
    raise InvalidInput(f"The model {model.name!r} has no deployment {args.deployment!r}; there are {known}.")


def _project(database: Database, name: str | None) -> str | None:
    """Return the id of a project by its name or id.

    Raises:
        InvalidInput: There is none.
    """
    from sqlalchemy import or_, select

    from modelyard.storage.tables import Project

    if name is None:
        return None
    with database.read() as session:
        found = session.scalars(select(Project.id).where(or_(Project.name == name, Project.id == name))).first()
    if found is None:
        raise InvalidInput(
            f"No project is called {name!r}; one is made with its first key, by `modelyard keys create`."
        )
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _facts(run: Run, args: argparse.Namespace, resumed: int) -> dict[str, Any]:
    asked = {request.custom_id for request in run.requests.asked}
    ended = {name: charged for name, charged in run.answers.charged.items() if name in asked}
    failures = {name: charged.result.problem for name, charged in ended.items() if charged.result.problem}
    results = {
        "model": run.model.name,
        "deployment": run.deployment.name,
        "out": str(args.out),
        "batch_api": not args.without_batch_api,
        "price_factor": 1.0 if args.without_batch_api else run.deployment.batch_price_factor,
        "batches": run.batches,
        "answered": len(ended) - len(failures),
        "failed": len(failures),
        "unanswered": len(asked) - len(ended),
        "resumed": resumed,
        "cost_usd": run.answers.spent_usd,
        "prompt_tokens": sum(charged.usage.prompt_tokens for charged in ended.values()),
        "cached_tokens": sum(charged.usage.cached_tokens for charged in ended.values()),
        "completion_tokens": sum(charged.usage.completion_tokens for charged in ended.values()),
        "failures": [{"custom_id": name, "reason": reason} for name, reason in failures.items()],
        "stopped": str(run.stopped) if run.stopped else None,
    }
    return {"schema": 1, "command": "batch", "seed": 0, "n": len(asked), "results": results}


def _text(facts: dict[str, Any], out: str) -> str:
    found = facts["results"]
    lines = [
        f"{out}: {found['answered']} of {facts['n']} requests answered by {found['model']} at {found['deployment']}, "
        f"{found['resumed']} of them before",
        f"{found['prompt_tokens']} prompt tokens ({found['cached_tokens']} cached), {found['completion_tokens']} written: "
        f"{found['cost_usd']:.6f} USD at {found['price_factor']:g} times the price",
    ]
    lines += [f"failed: {failure['custom_id']}: {failure['reason']}" for failure in found["failures"][:SHOWN]]
    if missing := found["failed"] + found["unanswered"]:
        lines.append(f"{missing} requests have no answer; the same command tries them again")
    return "\n".join(lines)


def _write(path: Path | None, facts: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise InvalidSetting(f"Cannot write --json {path}: {error.strerror}.") from None
