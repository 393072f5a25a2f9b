"""Quotas: what a key, a project or a model type may use; stored in the database, known here for a few seconds.

A model type is what an application asks for: a composite, or a base model. A stored subject may be a key's id or prefix, or a project's id
or name; here it is always the id.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sqlalchemy import case, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from modelyard.control.principals import checked_name
from modelyard.errors import InvalidInput
from modelyard.storage import tables
from modelyard.storage.database import Database, StorageError
from modelyard.storage.tables import ApiKey, Project

QuotaScope = Literal["key", "project", "model_type"]
Account = tuple[QuotaScope, str]

MOST_PER_MINUTE: Final = 2**31 - 1
MOST_USD: Final = 9_000_000.0  # in billionths it is still exact in a double, which Redis' Lua counts in
READ_S: Final = 2.0  # longest wait for a database that hangs
LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "usd_per_day", "usd_per_month")
_KEY: Final = func.coalesce(ApiKey.replaced_by, ApiKey.id)  # a secret in its grace is its key's


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one key, project or model type; None is no limit, days and months are UTC's.

    Raises:
        InvalidInput: A limit is negative, not a number, or absurdly large.
    """

    scope: QuotaScope
    subject: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    usd_per_day: float | None = None
    usd_per_month: float | None = None

    def __post_init__(self) -> None:
        """Check."""
        for name in LIMITS:
            value, most = getattr(self, name), MOST_USD if name.startswith("usd") else MOST_PER_MINUTE
            if value is not None and not 0 <= value <= most:
                raise InvalidInput(f"The limit {name} must be within 0 and {most:.0f}, but got {value!r}.")


class Quotas:
    """The quotas of a database.

    Args:
        database: Where they are stored.
        ttl_s: How long they count as read; a change made elsewhere works here within that time.
        clock: Seconds, monotonic.
    """

    def __init__(self, database: Database, *, ttl_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._ttl_s, self._clock = database, ttl_s, clock
        self._known: Mapping[Account, Quota] | None = None
        self._read_at = self._tried_at = -math.inf
        self._flight: Future[Mapping[Account, Quota]] | None = None
        self._problem: str | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modelyard-quotas")

    @property
    def problem(self) -> str | None:
        """Why quotas cannot be read, or None; those that were read last hold meanwhile."""
        return self._problem

    def fresh(self) -> Mapping[Account, Quota] | None:
        """Return the quotas as they were read less than the TTL ago, else None."""
        return self._known if self._clock() - self._read_at < self._ttl_s else None

    async def current(self) -> Mapping[Account, Quota]:
        """Return the quotas, read again where they are older than the TTL; where that fails, as they were.

        Callers wait for a first read, and after a rest longer than twice the TTL; else one read goes on beside them.

        Raises:
            StorageError: The database failed, and they were never read.
        """
        now = self._clock()
        if self._flight is None and now - max(self._read_at, self._tried_at) >= self._ttl_s:
            self._tried_at = now
            self._flight = self._thread.submit(self.refresh)
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        overdue = now - self._read_at >= 2 * self._ttl_s and self._problem is None
        if flight is not None and (self._known is None or overdue):
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(flight)), READ_S)
            except StorageError:
                if self._known is None:
                    raise
            except TimeoutError:
                self._problem = f"Quotas are not read again: the database did not answer within {READ_S:g} s."
        if self._known is None:
            raise StorageError(self._problem or "Quotas were never read.")
        return self._known

    def refresh(self) -> Mapping[Account, Quota]:
        """Read the quotas now.

        Raises:
            StorageError: The database failed; those that were known stay.
        """
        at = self._clock()
        try:
            known = _strictest(self.all())
        except StorageError as error:
            self._problem = f"Quotas are not read again: {error}"
            raise
        self._known, self._read_at, self._problem = known, at, None
        return known

    def all(self) -> tuple[Quota, ...]:
        """Return the stored quotas, with ids as their subjects.

        Raises:
            StorageError: The database failed.
        """
        row = tables.Quota
        subject = case(
            (row.scope == "key", select(_KEY).where(ApiKey.prefix == row.subject).scalar_subquery()),
            (row.scope == "project", select(Project.id).where(Project.name == row.subject).scalar_subquery()),
        )
        with self._database.read() as session:
            found = session.execute(select(row, subject).order_by(row.scope, row.subject)).all()
            return tuple(_quota(stored, subject) for stored, subject in found)

    def put(self, quota: Quota) -> Quota:
        """Store a quota in the place of the subject's former one, know it here at once, and return it with the subject's id.

        Raises:
            InvalidInput: No key or project is called so, or the name of a model type does not print.
            StorageError: The database failed; nothing was changed.
        """
        limits = {name: getattr(quota, name) for name in LIMITS}
        with self._database.write() as session:
            subject = _known_subject(session, quota.scope, quota.subject)
            _remove(session, quota.scope, {subject, quota.subject})
            session.execute(_upsert(session, {"scope": quota.scope, "subject": subject, **limits}, limits))
        self.refresh()
        return Quota(quota.scope, subject, **limits)

    def remove(self, scope: QuotaScope, subject: str) -> None:
        """Take a subject's limits away.

        Raises:
            InvalidInput: It has none.
            StorageError: The database failed; nothing was changed.
        """
        with self._database.write() as session:
            known = _id_of(session, scope, subject)
            if not _remove(session, scope, {subject, known or subject}):
                raise InvalidInput(f"The {scope} {subject[:80]!r} has no quota.")
        self.refresh()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _landed(self, flight: Future[Any]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # `problem` says it


def _quota(row: tables.Quota, subject: str | None) -> Quota:
    """Return a row as a quota; a limit that breaks the rules, which only another program can have stored, lets nothing through."""

    def checked(value: float | None, most: float) -> Any:
        return value if value is None or 0 <= value <= most else (most if value > most else 0)

    return Quota(
        cast("QuotaScope", row.scope),
        subject or row.subject,
        checked(row.requests_per_minute, MOST_PER_MINUTE),
        checked(row.tokens_per_minute, MOST_PER_MINUTE),
        checked(row.usd_per_day, MOST_USD),
        checked(row.usd_per_month, MOST_USD),
    )


def _strictest(quotas: tuple[Quota, ...]) -> Mapping[Account, Quota]:
    """Map accounts to their quotas; of two for the same, by id and by name, the strictest limits hold."""
    found: dict[Account, Quota] = {}
    for quota in quotas:
        account = (quota.scope, quota.subject)
        other = found.get(account, quota)
        limits: dict[str, Any] = {}
        for name in LIMITS:
            given = [limit for limit in (getattr(quota, name), getattr(other, name)) if limit is not None]
            limits[name] = min(given, default=None)
        found[account] = Quota(quota.scope, quota.subject, **limits)
    return found


def _known_subject(session: Session, scope: QuotaScope, subject: str) -> str:
    if scope == "model_type":
        return checked_name("A model type", subject)
    found = _id_of(session, scope, subject)
    if found is None:
        raise InvalidInput(f"There is no {scope} {subject[:80]!r}.")
    return found


def _id_of(session: Session, scope: QuotaScope, subject: str) -> str | None:
    if scope == "key":
        return session.scalar(select(_KEY).where(or_(ApiKey.id == subject, ApiKey.prefix == subject)))
    if scope == "project":
        return session.scalar(select(Project.id).where(or_(Project.id == subject, Project.name == subject)))
    return None


def _remove(session: Session, scope: QuotaScope, subjects: set[str]) -> int:
    row = tables.Quota
    query = delete(row).where(row.scope == scope, row.subject.in_(sorted(subjects))).returning(row.id)
    return len(session.execute(query).all())


def _upsert(session: Session, values: Mapping[str, Any], changed: Mapping[str, Any]) -> Any:
    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
    insert = dialects[session.get_bind().dialect.name].insert(tables.Quota).values(**values)
    return insert.on_conflict_do_update(index_elements=["scope", "subject"], set_=dict(changed))
