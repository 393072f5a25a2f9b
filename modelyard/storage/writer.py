"""Brings spooled usage to the database, in batches and off the request path; every row arrives once.

Rows carry their ids, and a row that is there already is left alone: after a crash between the database's commit and the spool's, the same
lines are read again and change nothing. While the database is gone, lines wait in their files. A row that the database refuses for good is
set aside in `refused.jsonl`, and the rest goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from modelyard.storage.database import Database, StorageError
from modelyard.storage.fragments import fragment_rows
from modelyard.storage.spool import Entry, Spool, abandoned, decode
from modelyard.storage.tables import Fragment, Message, ModelUsage

EVERY_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
ADOPT_S: Final = 30.0  # how often files of dead processes are looked for
BATCH: Final = 500  # requests in one transaction
REFUSED: Final = "refused.jsonl"
# What a row can be refused with: by the database, by SQLAlchemy before it, by a driver that cannot write a number.
REFUSALS: Final = (StatementError, OverflowError, TypeError, ValueError)
TABLES: Final[Sequence[tuple[str, Table]]] = (
    ("message", Message.__table__),
    ("fragments", Fragment.__table__),
    ("usages", ModelUsage.__table__),
)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

log = logging.getLogger("modelyard.storage")


class Writer:
    """A thread that drains a spool.

    Args:
        spool: This process'.
        database: Migrated when the first row comes, where it was not.
        every_s: Pause between looks at the spool.
    """

    def __init__(self, spool: Spool, database: Database, *, every_s: float = EVERY_S) -> None:
        self._spool, self._database, self._every_s = spool, database, every_s
        self._offset = 0
        self._reading = spool.current
        self._wake, self._closed = threading.Event(), threading.Event()
        self._turn = threading.Lock()
        self._migrated = False
        self._problem: str | None = None
        self.written = self.orphans = self.refused = self.damaged = 0
        self._thread = threading.Thread(target=self._run, name="modelyard-writer", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why rows cannot be stored, or None."""
        return self._problem

    @property
    def lag_bytes(self) -> int:
        """Bytes of this process' spool that are not in the database yet."""
        try:
            return sum(path.stat().st_size for path in self._own()) - self._offset
        except FileNotFoundError:  # drained at this very moment
            return 0

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was spooled before is in the database, and return whether that worked."""
        deadline = time.monotonic() + timeout_s
        if not self._turn.acquire(timeout=timeout_s):
            return False
        try:
            while time.monotonic() < deadline:
                if self._drain() and self._offset == _size(self._reading) and self._reading == self._spool.current:
                    return True
                if self._problem is not None:
                    return False
            return False
        finally:
            self._turn.release()

    def close(self, timeout_s: float = 10.0) -> None:
        """Store what can be stored, and stop; what cannot stays in the spool."""
        self.flush(timeout_s)
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s, adopt_at = self._every_s, 0.0
        while not self._closed.is_set():
            with self._turn:
                sound = self._drain()
                if sound and time.monotonic() >= adopt_at:
                    sound = self._adopt_all()
                    adopt_at = time.monotonic() + ADOPT_S
            wait_s = self._every_s if sound else min(2 * wait_s, LONGEST_WAIT_S)
            self._wake.wait(wait_s)

    def _drain(self) -> bool:
        """Store what this process has spooled since; return whether the database took it."""
        while True:
            current = self._spool.current
            entries, end = self._read(self._reading, self._offset, BATCH)
            if entries:
                if not self._store([entry.facts for entry in entries if entry.kind == "finish"]):
                    return False
                self._offset = end
            elif self._reading != current:
                self._next(current)
            else:
                self._offset = end
                return True

    def _next(self, current: Path) -> None:
        """Go on with the next file; what is open in the last one stands in it, too."""
        self._reading.unlink(missing_ok=True)
        own = self._own()
        self._reading, self._offset = (own[0] if own else current), 0

    def _own(self) -> list[Path]:
        return sorted(self._spool.folder.glob(f"{self._spool.process}-*"))

    def _adopt_all(self) -> bool:
        """Store what dead processes left, and charge what they had begun."""
        for process, paths in abandoned(self._spool.folder, self._spool.process).items():
            begun: dict[str, Mapping[str, Any]] = {}
            finished: set[str] = set()
            for path in paths:
                offset = 0
                while True:
                    entries, offset = self._read(path, offset, BATCH)
                    if not entries:
                        break
                    begun.update((entry.id, entry.facts) for entry in entries if entry.kind == "begin")
                    finished.update(entry.id for entry in entries if entry.kind == "finish")
                    if not self._store([entry.facts for entry in entries if entry.kind == "finish"]):
                        return False
            orphans = [facts for id, facts in begun.items() if id not in finished]
            if not self._store([{"message": None, "usages": [facts]} for facts in orphans]):
                return False
            self.orphans += len(orphans)
            if orphans:
                log.warning(
                    "The process %s was killed with %d calls under way: they are charged.", process, len(orphans)
                )
            for path in paths:
                path.unlink(missing_ok=True)
        return True

    def _read(self, path: Path, offset: int, most: int) -> tuple[list[Entry], int]:
        """Return entries from an offset on, and the offset behind them; a last line without its end is left for later."""
        found: list[Entry] = []
        try:
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    entry = decode(line[:-1])
                    if entry is None:
                        self.damaged += 1
                        log.error("A line of %s is damaged and was left out.", path)
                        continue
                    found.append(entry)
                    if len(found) >= most:
                        break
        except FileNotFoundError:
            pass
        return found, offset

    def _store(self, ended: Sequence[Mapping[str, Any]]) -> bool:
        """Store the rows of requests; return False where the database cannot be reached now."""
        if not ended:
            return True
        messages = [row["message"] for row in ended if row["message"]]
        rows = {
            "message": messages,
            "fragments": [fragment for message in messages if message["answer"] for fragment in fragment_rows(message)],
            "usages": [usage for row in ended for usage in row["usages"]],
        }
        try:
            self._migrate_once()
            try:
                self._insert(rows)
            except REFUSALS as error:
                if _gone(error):
                    raise
                self._insert_one_by_one(rows)
        except (SQLAlchemyError, StorageError) as error:
            self._problem = f"Usage waits in the spool: {_first_line(error)}."
            return False
        if self._problem is not None:
            log.info("Usage reaches the database again.")
        self._problem = None
        self.written += len(ended)
        return True

    def _insert(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        with self._database.engine.begin() as connection:
            for name, table in TABLES:
                for alike in _by_columns(rows[name]):
                    connection.execute(_statement(connection, table), [_typed(row) for row in alike])

    def _insert_one_by_one(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        for name, table in TABLES:
            for row in rows[name]:
                try:
                    with self._database.engine.begin() as connection:
                        connection.execute(_statement(connection, table), _typed(row))
                except REFUSALS as error:
                    if _gone(error):
                        raise
                    self._set_aside(name, row, error)

    def _set_aside(self, name: str, row: Mapping[str, Any], error: Exception) -> None:
        self.refused += 1
        log.error("The database refused a row of %s, which was set aside: %s", name, _first_line(error))
        with (self._spool.folder / REFUSED).open("ab") as file:
            file.write(orjson.dumps({"table": name, "row": row, "reason": _first_line(error)}) + b"\n")

    def _migrate_once(self) -> None:
        if not self._migrated:
            self._database.migrate()
            self._migrated = True


def _statement(connection: Connection, table: Table) -> Any:
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()


def _typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its moment as one, and texts that every database accepts."""
    typed = {
        name: value.replace("\x00", "\ufffd") if isinstance(value, str) and "\x00" in value else value
        for name, value in row.items()
    }
    if "created_at" in row:
        typed["created_at"] = datetime.fromisoformat(row["created_at"])
    return typed


def _by_columns(rows: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[Mapping[str, Any]]]:
    """Return the rows in groups of the same columns: one statement takes no others."""
    groups: dict[frozenset[str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(frozenset(row), []).append(row)
    return groups.values()


def _gone(error: Exception) -> bool:
    """Whether the database, rather than the row, is at fault."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or type(error).__name__ in {"OperationalError", "InterfaceError"}


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
