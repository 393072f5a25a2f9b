"""Stores the rows of requests, each once: one whose id is there is left alone, one that can never be stored is handed back."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import (
    CompileError,
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)

from modelyard.storage.database import Database, StorageError
from modelyard.storage.deletions import Deletions
from modelyard.storage.fragments import fragment_rows
from modelyard.storage.spool_insert import Inserts, insert_of, without_nul
from modelyard.storage.spool_refused import Refusal
from modelyard.storage.tables import Fragment, Message, ModelUsage
from modelyard.storage.tables.base import JsonText

Row = Mapping[str, Any]

TABLES: Final[Mapping[str, Any]] = {
    "message": Message.__table__,
    "fragment": Fragment.__table__,
    "usage": ModelUsage.__table__,
}
COLUMNS: Final = {name: frozenset(table.columns.keys()) for name, table in TABLES.items()}
# What PostgreSQL calls a row's fault: data, constraints, limits, types. Anything else may pass: a standby, rights, a missing table.
ROW_STATES: Final = ("22", "23", "54", "42804", "42P18")


class Unreachable(StorageError):
    """The database takes no rows now."""


@dataclass(slots=True)
class _Request:
    message: Row | None
    fragments: Sequence[Row]
    usages: Sequence[Row]


class RowStore:
    """Stores rows in a database, which is migrated before the first.

    Args:
        database: Any; on SQLite each batch is forced to the disk, since the spool forgets it then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inserts = Inserts(database.engine.dialect)
        self._migrated = False
        self._deletions = Deletions()

    def store(self, ended: Iterable[Row]) -> list[Refusal]:
        """Store the rows of requests in one transaction, and return those that can never be stored; deleted users' are left out.

        Raises:
            Unreachable: Nothing was stored; the same call may work later.
        """
        refused: list[Refusal] = []
        try:
            if not self._migrated:
                self._database.migrate()
                self._migrated, self._deletions = True, Deletions()
            with self._connection() as connection, self._deletions.honoured(connection, ended) as kept:
                requests = [_request(rows, refused) for rows in kept]
                if not self._together(connection, requests):
                    with connection.begin():
                        for request in requests:
                            _apart(connection, request, refused)
        except (SQLAlchemyError, StorageError) as error:
            self._migrated = False  # it may come back as another one
            raise Unreachable(f"Usage waits in the spool: {first_line(error)}.") from error
        return refused

    def _together(self, connection: Connection, requests: Sequence[_Request]) -> bool:
        """Store all rows; return False, and store none, where one of them is at fault."""
        tables = {
            "message": [request.message for request in requests if request.message is not None],
            "fragment": [row for request in requests for row in request.fragments],
            "usage": [row for request in requests for row in request.usages],
        }
        try:
            with connection.begin():
                for name, rows in tables.items():
                    self._inserts.insert(connection, TABLES[name], rows)
        except Exception as error:
            if not _rows_fault(error):
                raise
            return False
        return True

    @contextmanager
    def _connection(self) -> Generator[Connection]:
        with self._database.engine.connect() as connection:
            if connection.dialect.name != "sqlite":
                yield connection
                return
            raw: Any = connection.connection.dbapi_connection
            raw.execute("PRAGMA synchronous = FULL")
            try:
                yield connection
            finally:
                raw.execute("PRAGMA synchronous = NORMAL")


def _apart(connection: Connection, request: _Request, refused: list[Refusal]) -> None:
    """Store a request row by row; fragments belong to their message."""
    if request.message is not None and _alone(connection, "message", request.message, refused):
        for row in request.fragments:
            _alone(connection, "fragment", row, refused)
    for row in request.usages:
        _alone(connection, "usage", row, refused)


def _alone(connection: Connection, name: str, row: Row, refused: list[Refusal]) -> bool:
    try:
        with connection.begin_nested():
            clean = {column: without_nul(value) if type(value) is str else value for column, value in row.items()}
            connection.execute(insert_of(TABLES[name], connection.dialect), [clean])
    except Exception as error:
        if not _rows_fault(error):
            raise
        refused.append(Refusal(name, row, first_line(error)))
        return False
    return True


def _request(rows: Row, refused: list[Refusal]) -> _Request:
    """Return a request's rows with their moments as such; what has no form of a row is refused."""
    found = _Request(None, (), ())
    try:
        found.usages = [_typed("usage", row) for row in rows["usages"]]
    except Exception as error:
        refused.append(Refusal("request", rows, first_line(error)))
        return found
    message: Row | None = None
    try:
        message = rows["message"]
        if message is not None:
            sources = message["rag_sources"]
            sources = orjson.loads(str(sources)) if isinstance(sources, JsonText) else sources
            fragments = [_typed("fragment", row) for row in fragment_rows({**message, "rag_sources": sources})]
            found.message, found.fragments = _typed("message", message), fragments
    except Exception as error:
        refused.append(Refusal("message", message, first_line(error)))
    return found


def _typed(name: str, row: Row) -> Row:
    """Return a row with its moment as one.

    Raises:
        ValueError: A column is unknown, which SQLAlchemy would leave out, or the moment is none.
    """
    if not row.keys() <= COLUMNS[name]:
        raise ValueError(f"the table {name} has no column {min(row.keys() - COLUMNS[name])!r}")
    return {**row, "created_at": datetime.fromisoformat(row["created_at"])} if "created_at" in row else row


def _rows_fault(error: Exception) -> bool:
    """Whether the row, rather than the database, is at fault: it would be refused for ever."""
    if not isinstance(error, DBAPIError):  # SQLAlchemy or the driver have no form for a value
        return isinstance(
            error, StatementError | CompileError | OverflowError | TypeError | ValueError | LookupError | AttributeError
        )
    if error.connection_invalidated:
        return False
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state:
        return state.startswith(ROW_STATES)
    return isinstance(error, IntegrityError | DataError | ProgrammingError | NotSupportedError)


def first_line(error: BaseException) -> str:
    """Return what an error says, without the lines that quote the row."""
    if isinstance(error, StorageError):
        return str(error).rstrip(".")
    said = str(getattr(error, "orig", None) or error).splitlines()
    return f"{type(error).__name__}: {said[0].rstrip('.')}" if said else type(error).__name__
