"""Limits: a call is admitted under its limits before it is made, and settled at what it took.

    permit = await limits.admit(principal, "auto", tokens=…, cost_usd=…)   # the most that the call can take
    try: …
    finally: await limits.settle(permit, tokens, cost_usd)                 # or release(permit) where no call was made

Requests and tokens count in any 60 s, money in UTC days and months; all limits of a call hold together or it is refused and takes nothing.
As long as no call costs more than was reserved for it, no budget is ever passed, however many calls come at once. One that did cost more is
counted in full, and the next ones are refused.

`LocalLimits` counts in this process: with several processes each lets that much through, so that they need `RedisLimits`. Budgets begin
with what the database says was spent, so the spool should be drained before the first call is admitted.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from modelyard.control.budgets import Budget, Period, Periods, save_spending, spent_usd
from modelyard.control.budgets import nano as billionths
from modelyard.control.lines import NOTHING, Amounts, Line, Lines, amounts, refusal, worst
from modelyard.control.pools import SPENDING, Pool
from modelyard.control.principals import Principal
from modelyard.control.quotas import Account, Quotas
from modelyard.control.windows import SlidingWindow
from modelyard.errors import InvalidInput
from modelyard.storage.database import Database, StorageError

HOLD_S: Final = 3600.0  # longer than any call lasts
SEED_S: Final = 5.0  # longest wait for the database to say what was spent

log = logging.getLogger("modelyard.control")


@dataclass(slots=True, eq=False)
class Permit:
    """One call that was let through; `open` until it is settled or released, which counts once only.

    Attributes:
        reserved: What was reserved for it.
        holds: What the limits that gave it need to settle it.
    """

    number: int
    reserved: Amounts
    holds: list[Any] = field(default_factory=list[Any])
    open: bool = True


class Limits(Protocol):
    """Admits calls under the limits of their key, project and model type."""

    @property
    def problem(self) -> str | None:
        """What keeps limits from being as they should, or None."""
        ...

    async def admit(
        self,
        principal: Principal,
        model_type: str,
        tokens: float,
        cost_usd: float,
        *,
        least_tokens: float | None = None,
    ) -> Permit:
        """Reserve the most that a call can take, in tokens and USD, of every limit that it stands under, or of none.

        With `least_tokens`, the length of its answer is not known: it is let through where that many are left of a minute, and reserves
        what is left, up to `tokens`.

        Raises:
            LimitExceeded: A limit is reached; says when to come back.
            InvalidInput: A number is negative or not a number.
            StorageError: Limits or spending were never read, and the database failed.
        """
        ...

    async def settle(self, permit: Permit, tokens: float, cost_usd: float) -> None:
        """Count what the call took in the end, even if the caller is cancelled meanwhile.

        Numbers that cannot be count as what was reserved. Settling again does nothing.
        """
        ...

    async def release(self, permit: Permit) -> None:
        """Give tokens and money back: no call was made. The request still counts, since it was one."""
        ...

    def save_spending(self) -> int:
        """Store what was spent, for a background job, and return how many totals that was.

        Raises:
            StorageError: The database failed.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class LocalLimits:
    """Limits of one process; belongs to one event loop.

    Args:
        quotas: The limits.
        database: Where it is stored what was spent.
        clock: Unix time in seconds, for days and months.
        monotonic: Seconds, for everything shorter.
        hold_s: When a reservation that nobody settled counts as spent.
    """

    def __init__(
        self,
        quotas: Quotas,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        hold_s: float = HOLD_S,
    ) -> None:
        self._quotas, self._clock, self._monotonic, self._hold_s = quotas, clock, monotonic, hold_s
        self._lines, self._seeds, self._periods = Lines(quotas, self._keep), Seeds(database), Periods()
        self._windows: dict[Line, SlidingWindow] = {}
        self._budgets: dict[Line, tuple[Period, Budget]] = {}
        self._numbers = itertools.count()

    @property
    def problem(self) -> str | None:
        """Why quotas are not read again, or None."""
        return self._quotas.problem

    async def admit(
        self,
        principal: Principal,
        model_type: str,
        tokens: float,
        cost_usd: float,
        *,
        least_tokens: float | None = None,
    ) -> Permit:
        """Reserve the most that a call can take; see `Limits`."""
        permit = Permit(next(self._numbers), amounts(tokens, cost_usd, least_tokens))
        lines = await self._lines.over(principal, model_type)
        while lines:
            period = self._unseeded(lines)
            if period is None:
                self._take(principal, lines, permit)
                break
            line, needed = period
            spent = await self._seeds.spent(line.account, needed)
            if self._missing(line, needed):  # another call may have been first, and counted since
                self._budgets[line] = (needed, Budget(spent))
            lines = await self._lines.over(principal, model_type)
        return permit

    async def settle(self, permit: Permit, tokens: float, cost_usd: float) -> None:
        """Count what the call took; see `Limits`."""
        if permit.open and permit.holds:
            self._settle(permit, actual_amounts(permit, tokens, cost_usd))
        permit.open = False

    async def release(self, permit: Permit) -> None:
        """Give tokens and money back; see `Limits`."""
        if permit.open and permit.holds:
            self._settle(permit, NOTHING)
        permit.open = False

    def save_spending(self) -> int:
        """Store what was spent; see `Limits`."""
        budgets = list(self._budgets.items())
        totals = {(line.account, period.name): budget.spent / 1e9 for line, (period, budget) in budgets}
        if totals:
            save_spending(self._seeds.database, totals)
        return len(totals)

    async def close(self) -> None:
        """End the threads."""
        self._seeds.close()

    def _take(self, principal: Principal, lines: tuple[Line, ...], permit: Permit) -> None:
        """Check every line, then count in every one; nothing else runs in between."""
        now, taken = self._monotonic(), permit.reserved
        waits: dict[Line, float] = {}
        for line in lines:
            wait = self._meter(line).wait(taken.least_of(line), line.limit, now)
            if wait:
                waits[line] = wait
        if waits:
            line, wait = worst(waits)
            left_s = self._budgets[line][0].ends_at - self._clock() if line.is_budget else 0.0
            raise refusal(principal, line, wait, max(left_s, 1.0), open_ended=taken.least is not None)
        for line in lines:
            meter = self._meter(line)
            if isinstance(meter, Budget):
                meter.hold(permit.number, taken.nano, now + self._hold_s)
                permit.holds.append((line, meter, None, taken.nano))
            else:
                amount = meter.room(taken.of(line), taken.least_of(line), line.limit)
                permit.holds.append((line, meter, meter.take(amount, now), amount))

    def _settle(self, permit: Permit, actual: Amounts) -> None:
        now = self._monotonic()
        for line, meter, slot, taken in permit.holds:
            if line.is_budget:
                meter.settle(permit.number, taken, actual.nano)
            elif line.measure == "tokens":
                meter.correct(slot, taken, actual.tokens, now)

    def _meter(self, line: Line) -> SlidingWindow | Budget:
        if line.is_budget:
            return self._budgets[line][1]
        window = self._windows.get(line)
        if window is None:
            window = self._windows[line] = SlidingWindow()
        return window

    def _unseeded(self, lines: tuple[Line, ...]) -> tuple[Line, Period] | None:
        for line in lines:
            if line.measure in ("day", "month"):
                period = self._periods.at(line.measure, self._clock())
                if self._missing(line, period):
                    return line, period
        return None

    def _missing(self, line: Line, period: Period) -> bool:
        held = self._budgets.get(line)
        return held is None or held[0] != period

    def _keep(self, lines: frozenset[Line]) -> None:
        """Forget lines that are gone: while nobody counts in them, others may spend, so that they must begin anew."""
        moved = {(line.account, line.measure): line for line in lines}
        self._windows = _kept(self._windows, moved)
        self._budgets = _kept(self._budgets, moved)


class Seeds:
    """What the database says was spent; callers that ask for the same at once share the question."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._asked: dict[tuple[Account, Period], asyncio.Task[float]] = {}
        self._pool = Pool("spending", SPENDING)

    async def spent(self, account: Account, period: Period) -> int:
        """Return billionths of a USD.

        Raises:
            StorageError: The database failed.
        """
        key = (account, period)
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._pool.run(spent_usd, self.database, account, period))
            task.add_done_callback(lambda done: self._answered(key, done))
        try:
            return billionths(max(await asyncio.wait_for(asyncio.shield(task), SEED_S), 0.0))
        except TimeoutError:
            raise StorageError(f"The database did not say within {SEED_S:g} s what was spent.") from None

    def close(self) -> None:
        """End the threads."""
        self._pool.close()

    def _answered(self, key: tuple[Account, Period], done: asyncio.Task[float]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waits is told


def actual_amounts(permit: Permit, tokens: float, cost_usd: float) -> Amounts:
    """Return what a call took; what cannot be, as from an upstream that counts backwards, counts as what was reserved."""
    try:
        return amounts(tokens, cost_usd)
    except InvalidInput as error:
        log.error("A call is settled at what was reserved for it: %s", error)
        return permit.reserved


def _kept(meters: dict[Line, Any], moved: Mapping[tuple[Account, str], Line]) -> dict[Line, Any]:
    """Return the meters under their lines of today, whose limits may have changed."""
    found = ((moved.get((line.account, line.measure)), meter) for line, meter in meters.items())
    return {line: meter for line, meter in found if line is not None}
