"""Who was deleted: rows of theirs that come later, out of a spool or from a request that was under way, are not stored again.

A deletion is recorded before rows are deleted. Whoever stores rows looks before and once more behind: a deletion that is recorded between
the two looks may have missed these rows, and one that is recorded later has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal, cast

from sqlalchemy import Connection, bindparam, delete, select, text, update
from sqlalchemy.orm import Session

from modelyard.storage.tables import Deletion, Message, ModelUsage, now
from modelyard.storage.tables.base import stored_name

Kind = Literal["user", "project"]
Row = Mapping[str, Any]
LOCK: Final = 0x6D796465  # PostgreSQL advisory lock: "myde"; numbers become visible in their order
AT_ONCE: Final = 500  # ids in one statement
_LATER: Final = (
    select(Deletion.id, Deletion.kind, Deletion.subject, Deletion.deleted_at, Deletion.keep_charges)
    .where(Deletion.id > bindparam("newest"))
    .order_by(Deletion.id)
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """When somebody was deleted last, and whether their charges stayed."""

    at: datetime
    keep_charges: bool


def record_deletion(session: Session, kind: Kind, name: str, *, keep_charges: bool = False) -> None:
    """Note that everything of a user or project goes, in the place of what was noted of it before."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite lets one writer in as it is
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    row = Deletion(kind=kind, subject=digest_of(name), deleted_at=now(), keep_charges=keep_charges)
    session.add(row)
    session.flush()  # before the old one goes, whose number SQLite would give away again
    session.execute(
        delete(Deletion).where(Deletion.kind == kind, Deletion.subject == row.subject, Deletion.id < row.id)
    )


@lru_cache(maxsize=4096)
def digest_of(name: str) -> str:
    """Return what is kept of a user's or project's name."""
    return hashlib.blake2b(stored_name(name).encode(), digest_size=24).hexdigest()


class Deletions:
    """The deletions of a database, as far as they were read; for one thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Deleted] = {}
        self._newest = 0

    def read(self, connection: Connection) -> bool:
        """Read what is new, and return whether there was anything."""
        with connection.begin():
            rows = connection.execute(_LATER, {"newest": self._newest}).all()
        for id, kind, subject, at, keep_charges in rows:
            self._known[kind, subject] = Deleted(at, keep_charges)
            self._newest = id
        return bool(rows)

    @contextmanager
    def honoured(self, connection: Connection, ended: Iterable[Row]) -> Generator[list[Row]]:
        """Yield the rows of requests without those of deleted users and projects, and look again when they are stored."""
        self.read(connection)
        given = list(ended)
        spared = [self.spared(rows) for rows in given]
        yield [rows for rows in spared if rows is not None]
        if self.read(connection):
            spared = [self.spared(rows) for rows in given]
        # Also what was left out: whoever was killed between storing and the second look has stored it.
        self._sweep(connection, [pair for pair in zip(given, spared, strict=True) if pair[0] is not pair[1]])

    def spared(self, rows: Row) -> Row | None:
        """Return the rows of a request, without whose they were where only charges stay, or None where nothing does."""
        found = self._of(rows) if self._known and isinstance(rows, Mapping) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if found is None:
            return rows
        if not found.keep_charges:
            return None
        return {"message": None, "usages": [{**usage, "message_id": None} for usage in _usages(rows)]}

    def covers(self, kind: Kind, name: object, created_at: object = None) -> bool:
        """Whether something of a user or project, of that moment where it is known, is to go."""
        return self._deleted(kind, name, created_at) is not None

    def _of(self, rows: Row) -> Deleted | None:
        found: Any = rows.get("message")
        message = cast("Row", found) if isinstance(found, Mapping) else {}
        for row in (message, *_usages(rows)):
            gone = self._deleted("project", row.get("project_id"))
            if gone is not None:
                return gone
        return self._deleted("user", message.get("user_id"), message.get("created_at"))

    def _deleted(self, kind: Kind, name: object, created_at: object = None) -> Deleted | None:
        """Return the deletion; a project's id does not come back, a user may, and what has no moment is taken for old."""
        found = self._known.get((kind, digest_of(name))) if isinstance(name, str) else None
        if found is None or kind == "project":
            return found
        moment = _moment(created_at)
        return found if moment is None or moment <= found.at else None

    def _sweep(self, connection: Connection, late: Sequence[tuple[Row, Row | None]]) -> None:
        """Delete what was stored of requests that should not have been; of each, what came and what is left of it."""
        if not late:
            return
        messages = [rows["message"].get("id") for rows, _ in late if rows.get("message")]
        charges = [(usage.get("id"), left is not None) for rows, left in late for usage in _usages(rows)]
        with connection.begin():
            for ids in _parts(messages):  # fragments and feedback go with them
                connection.execute(delete(Message).where(Message.id.in_(ids)))
            for ids in _parts([id for id, kept in charges if not kept]):
                connection.execute(delete(ModelUsage).where(ModelUsage.id.in_(ids)))
            for ids in _parts([id for id, kept in charges if kept]):
                connection.execute(update(ModelUsage).where(ModelUsage.id.in_(ids)).values(message_id=None))


def _usages(rows: Row) -> list[Row]:
    found: Any = rows.get("usages")
    listed = cast("list[Any]", found) if isinstance(found, list | tuple) else []
    return [usage for usage in listed if isinstance(usage, Mapping)]


def _moment(value: object) -> datetime | None:
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return None if found.tzinfo is None else found


def _parts(ids: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
