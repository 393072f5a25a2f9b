"""Money: budgets of a UTC day or month, and what was spent of them.

Amounts are whole billionths of a USD, so that sums are exact; what is reserved or spent is rounded up.

A budget counts what was spent and what is reserved. A call reserves the most that it can cost, and is settled at what it did cost, in the
period that it began in. A reservation that nobody settles, because its process was killed, counts as spent when its time is over: the call
was very likely charged, and the usage table says the same (kind `orphan`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.control.quotas import Account
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage, Spending

NANO: Final = 1_000_000_000
MOST_NANO: Final = 2**53 - 1  # exact in a double
SPENT: Final = -1.0  # waits until the period ends
HELD: Final = -2.0  # waits for calls under way to be settled

Span = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """A UTC day (`2026-03-14`) or month (`2026-03`); it ends at `ends_at`, in Unix seconds."""

    span: Span
    name: str
    starts_at: float
    ends_at: float


class Periods:
    """The day and the month that it is; cheap to ask again and again."""

    def __init__(self) -> None:
        self._now: dict[Span, Period] = {}

    def at(self, span: Span, now: float) -> Period:
        """Return the period at a Unix time."""
        known = self._now.get(span)
        if known is None or not known.starts_at <= now < known.ends_at:
            known = self._now[span] = period_at(span, now)
        return known


def period_at(span: Span, now: float) -> Period:
    """Return the day or month at a Unix time."""
    at = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if span == "day":
        return Period(span, f"{at:%Y-%m-%d}", at.timestamp(), (at + timedelta(days=1)).timestamp())
    first = at.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Period(span, f"{at:%Y-%m}", first.timestamp(), following.timestamp())


def nano(usd: float) -> int:
    """Return billionths of a USD, rounded up, and at most so many that a double holds them exactly."""
    return min(math.ceil(round(usd * NANO, 3)), MOST_NANO) if usd < MOST_NANO / NANO else MOST_NANO


class Budget:
    """What was spent and reserved of one account in one period, in this process; times are monotonic seconds."""

    __slots__ = ("_holds", "reserved", "spent")

    def __init__(self, spent: int = 0) -> None:
        self.spent, self.reserved = spent, 0
        self._holds: dict[int, tuple[float, int]] = {}  # by permit, oldest first: when it lapses, how much

    def wait(self, amount: int, limit: int, now: float) -> float:
        """Return 0 where the amount fits under the limit, infinity where it never does, else `SPENT` or `HELD`."""
        self._lapse(now)
        if self.spent + self.reserved + amount <= limit:
            return 0.0
        if amount > limit:
            return math.inf
        return SPENT if self.spent + amount > limit else HELD

    def hold(self, permit: int, amount: int, until: float) -> None:
        """Reserve an amount; every reservation has the same length."""
        self._holds[permit] = (until, amount)
        self.reserved += amount

    def settle(self, permit: int, held: int, actual: int) -> None:
        """Turn a reservation into what was actually spent; one that lapsed counts as spent already, and is corrected."""
        if self._holds.pop(permit, None) is None:
            self.spent += actual - held
        else:
            self.reserved -= held
            self.spent += actual

    def _lapse(self, now: float) -> None:
        while self._holds:
            permit = next(iter(self._holds))
            until, amount = self._holds[permit]
            if until > now:
                return
            del self._holds[permit]
            self.reserved -= amount
            self.spent += amount


def spent_usd(database: Database, account: Account, period: Period) -> float:
    """Return what an account spent in a period as far as it is stored: the usage rows' sum, or the saved total where that is more.

    Raises:
        StorageError: The database failed.
    """
    since, until = (datetime.fromtimestamp(at, UTC) for at in (period.starts_at, period.ends_at))
    used = select(func.sum(ModelUsage.cost_usd)).where(
        ModelUsage.created_at >= since, ModelUsage.created_at < until, _of(account)
    )
    with database.read() as session:
        saved = session.get(Spending, (*account, period.name))
        return max(session.scalar(used) or 0.0, 0.0 if saved is None else saved.spent_usd)


def save_spending(database: Database, totals: Mapping[tuple[Account, str], float]) -> None:
    """Store what accounts spent, in USD, by account and period's name; a total that is larger already stays.

    Raises:
        StorageError: The database failed; nothing was stored.
    """
    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
    with database.write() as session:
        for ((scope, subject), period), spent in sorted(
            totals.items()
        ):  # in one order, so that two processes do not deadlock
            values = {"scope": scope, "subject": subject, "period": period, "spent_usd": spent}
            insert = dialects[session.get_bind().dialect.name].insert(Spending).values(**values)
            session.execute(
                insert.on_conflict_do_update(
                    index_elements=["scope", "subject", "period"],
                    set_={"spent_usd": insert.excluded.spent_usd},
                    where=insert.excluded.spent_usd > Spending.spent_usd,
                )
            )


def _of(account: Account) -> ColumnElement[bool]:
    scope, subject = account
    if scope == "key":
        return ModelUsage.api_key_id == subject
    if scope == "project":
        return ModelUsage.project_id == subject
    asked_directly = and_(ModelUsage.composite.is_(None), ModelUsage.model == subject)
    return or_(ModelUsage.composite == subject, asked_directly)
