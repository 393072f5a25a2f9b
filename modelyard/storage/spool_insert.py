"""Inserts of many rows of the same columns, worked out once: SQLAlchemy would look at each value of each row anew.

Values pass through the same types as with SQLAlchemy's own inserts, column by column, so that the same rows come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Column, Connection, Dialect, String, Table
from sqlalchemy.dialects import postgresql, sqlite

Row = Mapping[str, Any]
_Values = Callable[[Sequence[Row]], Iterable[Any]]  # of one column, in the order of the rows


def insert_of(table: Table, dialect: Dialect) -> Any:
    """Return the statement that inserts rows into a table, and leaves those alone whose id is there."""
    insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing(index_elements=["id"])


def without_nul(text: str) -> str:
    """Return text without the one character that PostgreSQL refuses; types that take anybody's text see to that themselves."""
    return text.replace("\x00", "\ufffd")


class Inserts:
    """The inserts of one database."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect: Final = dialect
        self._known: Final[dict[tuple[str, frozenset[str]], _Insert]] = {}

    def insert(self, connection: Connection, table: Table, rows: Iterable[Row]) -> None:
        """Insert the rows, those of the same columns together: one statement takes no others.

        Raises:
            Exception: A row is at fault, or the database; which one it is is not said.
        """
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row), []).append(row)
        for names, alike in groups.items():
            key = table.name, frozenset(names)
            insert = self._known.get(key)
            if insert is None:
                insert = self._known[key] = _Insert(table, key[1], self._dialect)
            connection.exec_driver_sql(insert.statement, insert.parameters(alike))


class _Insert:
    """Inserts into the named columns of a table, and into those that have a default."""

    def __init__(self, table: Table, names: frozenset[str], dialect: Dialect) -> None:
        columns = [column for column in table.columns if column.key in names or column.default is not None]
        self._names = [column.key for column in columns]
        compiled = insert_of(table, dialect).compile(dialect=dialect, column_keys=self._names)
        self.statement = str(compiled)
        self._positional = dialect.positional
        self._columns = [
            _given(column, dialect) if column.key in names else _default(column, dialect) for column in columns
        ]

    def parameters(self, rows: Sequence[Row]) -> list[Any]:
        """Return the rows as the driver takes them."""
        values = zip(*[column(rows) for column in self._columns], strict=True)
        return list(values) if self._positional else [dict(zip(self._names, row, strict=True)) for row in values]


def _given(column: Column[Any], dialect: Dialect) -> _Values:
    name, process = column.key, _processor(column, dialect)
    if process is not None:
        return lambda rows: [process(row[name]) for row in rows]
    if isinstance(column.type, String):
        return lambda rows: [
            without_nul(value) if value and "\x00" in value else value for value in map(itemgetter(name), rows)
        ]
    return lambda rows: [row[name] for row in rows]


def _default(column: Column[Any], dialect: Dialect) -> _Values:
    process, default = _processor(column, dialect), column.default
    made: Any = getattr(default, "arg", None)
    make: Callable[[], Any] = (lambda: made(None)) if getattr(default, "is_callable", False) else (lambda: made)
    return lambda rows: [make() if process is None else process(make()) for _ in rows]


def _processor(column: Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return column.type.dialect_impl(dialect).bind_processor(dialect)
