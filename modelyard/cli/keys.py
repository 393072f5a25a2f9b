"""`modelyard keys create|list|rotate|revoke|quota`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.text import table
from modelyard.control.principals import SCOPES
from modelyard.errors import InvalidSetting
from modelyard.settings import current

if TYPE_CHECKING:
    from modelyard.control.keys import KeyFacts, KeyRing
    from modelyard.control.quotas import Quotas
    from modelyard.storage.database import Database

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_DAYS: Final = 3_650
LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "usd_per_day", "usd_per_month")


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("keys", help="make, list, rotate and revoke API keys, and set what they may use")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    create = actions.add_parser("create", help="make a key; it is shown this once, on standard output")
    create.add_argument("project", help="id or name of its project, which is made where there is none")
    create.add_argument("name", help="what the key is for")
    create.add_argument(
        "--scope", action="append", choices=SCOPES, help="what it may do (again for more; chat if none)"
    )
    create.add_argument(
        "--model", action="append", help="a composite or base model it may ask for (again for more; all if none)"
    )
    create.add_argument(
        "--expires", metavar="TIME", help="how long it is valid, such as 90d or 12h; for good if not given"
    )
    create.set_defaults(run=_create)

    listed = actions.add_parser("list", help="list keys, without their secrets")
    listed.add_argument("--project", help="id or name; all if not given")
    listed.set_defaults(run=_list)

    rotate = actions.add_parser("rotate", help="give a key a new secret under the same id; it is shown this once")
    rotate.add_argument("key", help="the key's id or prefix")
    rotate.add_argument(
        "--grace", metavar="TIME", default="0s", help="how long the old secret stays valid, such as 1h; 0s"
    )
    rotate.set_defaults(run=_rotate)

    revoke = actions.add_parser("revoke", help="end a key and every older secret of it, within a minute everywhere")
    revoke.add_argument("key", help="the key's id or prefix")
    revoke.set_defaults(run=_revoke)

    _configure_quota(
        actions.add_parser("quota", help="list, set and remove limits").add_subparsers(metavar="ACTION", required=True)
    )


def _configure_quota(actions: Any) -> None:
    actions.add_parser("list", help="list all limits").set_defaults(run=_quota_list)
    put = actions.add_parser("set", help="set all limits of a subject; those that are not given are no limits")
    remove = actions.add_parser("remove", help="take a subject's limits away")
    for parser in (put, remove):
        parser.add_argument("scope", choices=("key", "project", "model_type"))
        parser.add_argument(
            "subject", help="a key's id or prefix, a project's id or name, or a composite or base model"
        )
    for name in LIMITS:
        put.add_argument(f"--{name.replace('_', '-')}", type=float if name.startswith("usd") else int, metavar="N")
    put.set_defaults(run=_quota_set)
    remove.set_defaults(run=_quota_remove)


def _create(args: argparse.Namespace) -> int:
    expires_at = None if args.expires is None else datetime.now(UTC) + _duration("--expires", args.expires)
    with _ring() as ring:
        principal, key = ring.create(
            args.project, args.name, args.scope or ["chat"], model_types=args.model, expires_at=expires_at
        )
    _show(principal.key_id, key)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _ring() as ring:
        rows = [("id", "prefix", "project", "name", "scopes", "models", "state", "last used")]
        rows += [_row(facts) for facts in ring.list(args.project)]
    print("\n".join(table(rows)))
    return 0


def _rotate(args: argparse.Namespace) -> int:
    with _ring() as ring:
        principal, key = ring.rotate(args.key, grace_s=_duration("--grace", args.grace).total_seconds())
    _show(principal.key_id, key)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _ring() as ring:
        ring.revoke(args.key)
    print(f"The key {args.key} is revoked; servers that know it stop taking it within a minute.")
    return 0


def _quota_list(_: argparse.Namespace) -> int:
    with _quotas() as quotas:
        rows = [("scope", "subject", *LIMITS)]
        rows += [
            (quota.scope, _printable(quota.subject), *(_limit(getattr(quota, name)) for name in LIMITS))
            for quota in quotas.all()
        ]
    print("\n".join(table(rows)))
    return 0


def _quota_set(args: argparse.Namespace) -> int:
    from modelyard.control.quotas import Quota

    limits = {name: getattr(args, name) for name in LIMITS}
    if all(limit is None for limit in limits.values()):
        raise InvalidSetting("Give at least one limit, or use `modelyard keys quota remove`.")
    with _quotas() as quotas:
        quotas.put(Quota(args.scope, args.subject, **limits))
    print(f"The limits of the {args.scope} {args.subject} are set; they count within seconds.")
    return 0


def _quota_remove(args: argparse.Namespace) -> int:
    with _quotas() as quotas:
        quotas.remove(args.scope, args.subject)
    print(f"The limits of the {args.scope} {args.subject} are removed.")
    return 0


@contextmanager
def _database() -> Generator[Database]:
    from modelyard.storage.database import Database

    database = Database(current().database)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@contextmanager
def _ring() -> Generator[KeyRing]:
    from modelyard.control.keys import KeyRing

    with _database() as database:
        ring = KeyRing(database)
        try:
            yield ring
        finally:
            ring.close()


@contextmanager
def _quotas() -> Generator[Quotas]:
    from modelyard.control.quotas import Quotas

    with _database() as database:
        quotas = Quotas(database)
        try:
            yield quotas
        finally:
            quotas.close()


def _show(key_id: str | None, key: str) -> None:
    """Print the key alone on standard output, for a pipe into a secret store, and the rest beside it."""
    print(key)
    print(f"This is the key {key_id}. Keep it now: it is stored nowhere and cannot be shown again.", file=sys.stderr)


def _row(facts: KeyFacts) -> tuple[str, ...]:
    models = "all" if facts.model_types is None else " ".join(facts.model_types) or "none"
    used = "never" if facts.last_used_at is None else _moment(facts.last_used_at)
    return facts.id, facts.prefix, facts.project, facts.name, " ".join(facts.scopes), models, _state(facts), used


def _state(facts: KeyFacts) -> str:
    if facts.revoked_at is not None:
        return f"revoked {_moment(facts.revoked_at)}"
    if facts.expires_at is None:
        return "valid"
    ended = facts.ended(datetime.now(UTC)) is not None
    return f"{'expired' if ended else 'valid until'} {_moment(facts.expires_at)}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def _limit(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _printable(text: str) -> str:
    """Return text that cannot steer a terminal; quotas can be set by other programs."""
    return text if text.isprintable() else repr(text)


def _duration(option: str, text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(found[1]) * UNITS[found[2]] if found else None
    if seconds is None or seconds > LONGEST_DAYS * 86_400:
        raise InvalidSetting(
            f"{option} must be a number with s, m, h or d, at most {LONGEST_DAYS}d, but got {text[:40]!r}."
        )
    return timedelta(seconds=seconds)
