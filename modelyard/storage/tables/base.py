"""What every table stands on: names, moments in time, identifiers that grow with time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import JSON, CheckConstraint, DateTime, Dialect, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from modelyard.identifiers import ordered_hex

# Names that both databases and every later migration agree on.
NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

ID: Final = 80  # characters of an identifier
NAME: Final = 200  # characters of a name

_JSON_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # an escaped backslash before u0000 makes it plain text
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(high + low for high in _CROCKFORD for low in _CROCKFORD)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in time: stored as UTC, read back with its time zone also where the database (SQLite) keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC.

        Raises:
            ValueError: The moment has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a stored moment needs a time zone, but got {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Anybody's text: stored in a form that every database accepts."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what PostgreSQL (NUL) or no encoding (lone surrogates) has a place for."""
        return None if value is None else storable(value)


class GivenName(TypeDecorator[str]):
    """A name that callers give, of any length and in any characters; also compared in the form that is stored."""

    impl = String(NAME)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Give a name that is too long a hash for its end: different names stay different."""
        return None if value is None else stored_name(value)


class Base(DeclarativeBase):
    """The declarative base; its metadata is what the migrations must add up to."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it as a plain class attribute)
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


def now() -> datetime:
    """Return this moment in UTC."""
    return datetime.now(UTC)


def ordered_id() -> str:
    """Return a fresh ULID: 26 characters that sort by the millisecond they were made in, so that indexes grow at one end."""
    number = int(ordered_hex(), 16)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def storable(text: str) -> str:
    """Return text that every database accepts: PostgreSQL refuses NUL, and no encoding has lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class JsonText(str):
    """What a JSON column holds, as JSON already: whoever passes a row on need not take it apart."""

    __slots__ = ()


def stored_name(given: str) -> str:
    """Return the form in which a name that callers give is stored."""
    name = storable(given)
    if len(name) <= NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: NAME - len(digest) - 1]}~{digest}"


def to_json(value: Any) -> str:
    """Return JSON that every database can also read in: without NUL, lone surrogates and NaN."""
    try:
        text = value if type(value) is JsonText else orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, keys that are no text
        text = storable(json.dumps(value, ensure_ascii=False))
    return _JSON_NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Return the check that a column holds one of the values; it is named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
