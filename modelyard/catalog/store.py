"""Keeps changes of the catalogue in the database, one row an entry, so that a restart and other processes find them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from modelyard.catalog.overlay import ACTIONS, Change, EntryKind, Key, plain
from modelyard.errors import InvalidSetting
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelConfig

CHANGE_LOCK: Final = 0x6D6F6463  # PostgreSQL advisory lock: "modc"
LONGEST_AUTHOR: Final = 200


class Stored:
    """The stored changes inside one transaction, which no other change can enter.

    Attributes:
        changes: By kind and name.
        revision: The newest change's number; 0 where there is none.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = {(row.kind, row.name): row for row in session.scalars(select(ModelConfig))}
        self.changes: dict[Key, Change] = dict(_change(row) for row in self._rows.values() if row.kind != "deployment")
        self.revision = max((row.revision for row in self._rows.values()), default=0)

    def put(self, change: Change, *, enabled: bool, by: str) -> None:
        """Store a change in the place of the one that its entry has."""
        self.revision += 1
        self.changes[change.key] = change
        row = self._rows.get(change.key)
        if row is None:
            row = ModelConfig(kind=change.kind, name=change.name)
            self._session.add(row)
        row.body = {"action": change.action, "fields": dict(change.fields)}
        row.enabled, row.revision, row.updated_by = enabled, self.revision, _author(by)
        self._session.flush()


class ChangeStore:
    """The changes in a database; every method raises `StorageError` where it fails.

    Args:
        database: Migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        """Return the newest change's number; 0 where there is none."""
        with self._database.read() as session:
            return session.scalar(select(func.max(ModelConfig.revision))) or 0

    def read(self) -> tuple[dict[Key, Change], int]:
        """Return the changes and the newest one's number.

        Raises:
            InvalidSetting: A row holds something else.
        """
        with self._database.read() as session:
            stored = Stored(session)
        return stored.changes, stored.revision

    @contextmanager
    def changing(self) -> Generator[Stored]:
        """Open the changes for writing: committed when the block ends, all of it or nothing; others wait.

        Raises:
            InvalidSetting: A row holds something else.
        """
        with self._database.write() as session:
            if session.get_bind().dialect.name == "postgresql":  # SQLite lets one writer in as it is
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CHANGE_LOCK})
            yield Stored(session)


def _change(row: ModelConfig) -> tuple[Key, Change]:
    kind, body = cast("EntryKind", row.kind), cast("Any", row.body)
    action = ACTIONS.get(str(body.get("action"))) if isinstance(body, dict) else None
    if action is None:
        raise InvalidSetting(f"The stored change of the {row.kind} {row.name!r} is not one: its action is unknown.")
    change = Change(kind, row.name, action, plain(cast("dict[str, Any]", body).get("fields")))
    return change.key, change


def _author(by: str) -> str:
    return "".join(letter for letter in by if letter.isprintable())[:LONGEST_AUTHOR] or "unknown"
