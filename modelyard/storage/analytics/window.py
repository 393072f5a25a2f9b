"""Which usage a question is about, and what its answer is broken down by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, String, cast, null
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from modelyard.errors import InvalidInput
from modelyard.storage.tables import REQUEST_KINDS, ModelUsage, now

By = Literal["model", "deployment", "composite", "key", "project", "domain", "complexity", "kind"]
Bucket = Literal["hour", "day"]

COLUMNS: Final[dict[By, InstrumentedAttribute[Any]]] = {
    "model": ModelUsage.model,
    "deployment": ModelUsage.deployment,
    "composite": ModelUsage.composite,
    "key": ModelUsage.api_key_id,
    "project": ModelUsage.project_id,
    "domain": ModelUsage.domain,
    "complexity": ModelUsage.complexity,
    "kind": ModelUsage.kind,
}

IS_REQUEST: Final = ModelUsage.kind.in_(REQUEST_KINDS)
ANSWERED: Final = IS_REQUEST & ModelUsage.status.in_(("complete", "degraded"))


@dataclass(frozen=True, slots=True)
class Window:
    """Moments with a time zone: `since` belongs to the window, `until` does not; None leaves that side open.

    Raises:
        InvalidInput: A moment has no time zone, or the window ends before it begins.
    """

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Check."""
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise InvalidInput(f"A window's moments need a time zone, but got {moment.isoformat()}.")
        if self.since is not None and self.until is not None and self.until < self.since:
            raise InvalidInput(f"A window must not end ({self.until.isoformat()}) before {self.since.isoformat()}.")

    @classmethod
    def days(cls, count: float, until: datetime | None = None) -> Window:
        """Return the window of the last days, up to now unless another moment is given."""
        end = until or now()
        return cls(end - timedelta(days=count), until)

    def conditions(self, moment: InstrumentedAttribute[datetime]) -> Iterator[ColumnElement[bool]]:
        """Yield what must hold for a row's moment."""
        if self.since is not None:
            yield moment >= self.since
        if self.until is not None:
            yield moment < self.until


@dataclass(frozen=True, slots=True)
class Only:
    """Looks only at usage with this model, key, project …; None looks at all."""

    model: str | None = None
    deployment: str | None = None
    composite: str | None = None
    key: str | None = None
    project: str | None = None
    domain: str | None = None
    complexity: str | None = None
    kind: str | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what must hold for a row of usage."""
        for field in fields(self):
            wanted: str | None = getattr(self, field.name)
            if wanted is not None:
                yield COLUMNS[field.name] == wanted  # type: ignore[index]  (the fields are the keys)


class utc_hour(GenericFunction[str]):  # noqa: N801  (named as it is called in SQL)
    """The UTC hour of a moment as `YYYY-MM-DD HH`, in either database."""

    type = String()
    inherit_cache = True


class utc_day(GenericFunction[str]):  # noqa: N801
    """The UTC day of a moment as `YYYY-MM-DD`, in either database."""

    type = String()
    inherit_cache = True


# SQLite keeps a moment as the text `2026-03-01 12:30:00.000000`: its first characters are its bucket.
@compiles(utc_hour, "sqlite")
@compiles(utc_day, "sqlite")
def _sqlite_bucket(element: utc_hour | utc_day, compiler: SQLCompiler, **kwargs: Any) -> str:
    length = 13 if isinstance(element, utc_hour) else 10
    return f"substr({compiler.process(element.clauses, **kwargs)}, 1, {length})"


@compiles(utc_hour, "postgresql")
@compiles(utc_day, "postgresql")
def _postgresql_bucket(element: utc_hour | utc_day, compiler: SQLCompiler, **kwargs: Any) -> str:
    pattern = "YYYY-MM-DD HH24" if isinstance(element, utc_hour) else "YYYY-MM-DD"
    return f"to_char({compiler.process(element.clauses, **kwargs)} AT TIME ZONE 'UTC', '{pattern}')"


BUCKETS: Final = {"hour": utc_hour, "day": utc_day}
NOTHING: Final = cast(null(), String)


def dimensions(by: By | None, bucket: Bucket | None) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return what rows are grouped by: the bucket's text and the subject, each NULL where it is not wanted."""
    at = NOTHING if bucket is None else BUCKETS[bucket](ModelUsage.created_at)
    return at, NOTHING if by is None else COLUMNS[by].expression


def moment_of(bucket: str | None) -> datetime | None:
    """Return the moment at which a bucket begins."""
    if bucket is None:
        return None
    return datetime.fromisoformat(bucket if len(bucket) == 10 else f"{bucket}:00").replace(tzinfo=UTC)
