"""Limits that several processes share through Redis.

Each of admit, settle and release is one script, one round trip, and none where no limit is set. A budget that Redis does not know, or that
this process has not met yet, is first raised to what the database says was spent: losing Redis' memory opens no budget.

While Redis is gone, `without` decides: `closed` refuses (503), `local` counts in this process. Either way `problem` says so. A call that
cannot be settled then stays reserved and lapses into spent, at the most that it could cost.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from modelyard.control.budgets import HELD, NANO, SPENT, Period, Periods, save_spending
from modelyard.control.limits import HOLD_S, LocalLimits, Permit, Seeds, actual_amounts
from modelyard.control.lines import NOTHING, Amounts, Line, Lines, amounts, refusal, worst
from modelyard.control.principals import Principal
from modelyard.control.quotas import Account, Quotas
from modelyard.control.redis_link import REST_S, TIMEOUT_S, Argument, RedisGone, RedisLink
from modelyard.control.redis_scripts import ADMIT, SEED, SETTLE
from modelyard.errors import LimitExceeded
from modelyard.storage.database import Database, StorageError

PREFIX: Final = "modelyard:{limits}"  # braces: one slot of a cluster
KEPT_S: Final = 2 * 86_400  # budgets outlive their period, for calls that began in it
WAITS: Final = {"never": math.inf, "spent": SPENT, "held": HELD}
DOUBTFUL: Final = 1_000
TRIES: Final = 5  # of a reservation, each after telling Redis of budgets that it lost

Share = tuple[Line, Period | None]  # a line, and the period that counts where it limits money


@dataclass(slots=True, eq=False)
class _Shared(Permit):
    """A permit that Redis knows of; `slot` is where its tokens count, `taken` how much it reserved of each line."""

    shares: list[Share] = field(default_factory=list[Share])
    slot: bytes = b""
    taken: dict[Line, int] = field(default_factory=dict[Line, int])


class RedisLimits:
    """Limits of all processes that use one Redis; belongs to one event loop.

    Args:
        quotas: The limits.
        database: Where it is stored what was spent.
        url: Redis' URL; its password is never shown.
        without: What happens while Redis is gone.
        prefix: Of all keys.
        clock: Unix time in seconds, for days and months.
        redis_clock: Seconds for everything shorter; None is the server's own clock, which all processes agree on.
        hold_s: When a reservation that nobody settled counts as spent.

    Raises:
        InvalidSetting: The URL is not Redis'.
        MissingExtra: The Redis client is not installed.
    """

    def __init__(
        self,
        quotas: Quotas,
        database: Database,
        url: str,
        *,
        without: Literal["closed", "local"] = "closed",
        prefix: str = PREFIX,
        clock: Callable[[], float] = time.time,
        redis_clock: Callable[[], float] | None = None,
        hold_s: float = HOLD_S,
    ) -> None:
        self._link = RedisLink(url)
        self._admit, self._settle, self._seed = (self._link.script(text) for text in (ADMIT, SETTLE, SEED))
        self._quotas, self._prefix, self._clock, self._redis_clock = quotas, prefix, clock, redis_clock
        self._hold_s, self._without = hold_s, without
        self._local = LocalLimits(quotas, database, clock=clock, hold_s=hold_s)
        self._lines, self._seeds, self._periods = Lines(quotas, self._keep), Seeds(database), Periods()
        self._met: dict[Line, Period] = {}
        self._totals: dict[tuple[Account, str], float] = {}
        self._doubtful: deque[_Shared] = deque(maxlen=DOUBTFUL)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def problem(self) -> str | None:
        """Why Redis is not used, or quotas are not read again, or None."""
        return self._link.problem or self._quotas.problem

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
        permit = _Shared(secrets.randbits(63), amounts(tokens, cost_usd, least_tokens))
        if not await self._lines.over(principal, model_type):
            return permit
        if self._link.rests():
            return await self._admit_without(principal, model_type, permit.reserved)
        reserving = self._start(self._reserve(principal, model_type, permit))
        try:
            await asyncio.shield(reserving)
        except asyncio.CancelledError:  # the caller is gone; what Redis may have reserved is given back
            reserving.add_done_callback(lambda _: self._start(self._settle_shared(permit, NOTHING)))
            raise
        except RedisGone:
            return await self._admit_without(principal, model_type, permit.reserved)
        return permit

    async def settle(self, permit: Permit, tokens: float, cost_usd: float) -> None:
        """Count what the call took, even if the caller is cancelled meanwhile; see `Limits`."""
        if not isinstance(permit, _Shared):
            await self._local.settle(permit, tokens, cost_usd)
        elif permit.open:
            permit.open = False
            await asyncio.shield(self._start(self._settle_shared(permit, actual_amounts(permit, tokens, cost_usd))))

    async def release(self, permit: Permit) -> None:
        """Give tokens and money back; see `Limits`."""
        if not isinstance(permit, _Shared):
            await self._local.release(permit)
        elif permit.open:
            permit.open = False
            await asyncio.shield(self._start(self._settle_shared(permit, NOTHING)))

    def save_spending(self) -> int:
        """Store what was spent, as far as this process was told; see `Limits`."""
        totals, self._totals = self._totals, {}
        try:
            save_spending(self._seeds.database, totals)
        except StorageError:
            self._totals = {**totals, **self._totals}
            raise
        return len(totals) + self._local.save_spending()

    async def close(self) -> None:
        """Wait for calls that are being settled, and close connections and threads."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * TIMEOUT_S)
        await self._link.close()
        await self._local.close()
        self._seeds.close()

    async def _admit_without(self, principal: Principal, model_type: str, most: Amounts) -> Permit:
        self._met.clear()  # what others spend meanwhile, only the database will know
        if self._without == "local":
            cost_usd = most.nano / NANO
            return await self._local.admit(principal, model_type, most.tokens, cost_usd, least_tokens=most.least)
        raise LimitExceeded(
            "Limits cannot be counted now, so that no call is let through.", retry_after_s=REST_S, kind="capacity"
        )

    async def _reserve(self, principal: Principal, model_type: str, permit: _Shared) -> None:
        """Reserve in Redis, telling it first what it does not know of budgets."""
        for _ in range(TRIES):
            lines = await self._lines.over(principal, model_type)
            shares = [(line, self._period(line)) for line in lines]
            for line, period in shares:
                if period is not None and self._met.get(line) != period:
                    await self._raise(line, period)
            permit.shares = shares
            keys = [key for line, period in shares for key in self._keys(line, period)]
            try:
                status, *found = await self._link.call(self._admit, keys, self._admission(permit))
            except RedisGone:
                self._doubtful.append(permit)
                raise
            if status == b"ok":
                permit.slot, *taken = found
                permit.taken = {line: int(amount) for (line, _), amount in zip(shares, taken, strict=True)}
                self._clear_doubts()
                return
            permit.shares = []
            self._refuse(principal, permit, dict(zip(shares, [what.decode() for what in found], strict=True)))
        raise RedisGone("Redis forgets budgets as soon as it is told them.")

    def _admission(self, permit: _Shared) -> list[Argument]:
        arguments: list[Argument] = [self._now(), permit.number, self._hold_s]
        for line, period in permit.shares:
            reserved = permit.reserved
            more: list[Argument] = ["w", reserved.least_of(line)] if period is None else ["b", self._lives_s(period)]
            arguments += [more[0], line.limit, reserved.of(line), more[1]]
        return arguments

    def _refuse(self, principal: Principal, permit: _Shared, found: dict[Share, str]) -> None:
        """Raise the refusal that holds up longest; a budget that Redis has lost is told it again before the next try."""
        waits: dict[Line, float] = {}
        for (line, _), what in found.items():
            if what == "unseeded":
                self._met.pop(line, None)
            elif what != "0":
                waits[line] = WAITS[what] if what in WAITS else float(what)
        if waits:
            line, wait = worst(waits)
            ends_at = next(period.ends_at if period else 0.0 for one, period in found if one == line)
            left_s = max(ends_at - self._clock(), 1.0)
            raise refusal(principal, line, wait, left_s, open_ended=permit.reserved.least is not None)

    async def _raise(self, line: Line, period: Period) -> None:
        spent = await self._seeds.spent(line.account, period)
        await self._link.call(self._seed, self._keys(line, period)[:1], [spent, self._lives_s(period)])
        self._met[line] = period

    async def _settle_shared(self, permit: _Shared, actual: Amounts, *, first: bool = True) -> None:
        shares = [share for share in permit.shares if share[0].measure != "requests"]
        if not shares:
            return
        keys = [key for line, period in shares for key in self._keys(line, period)]
        lines: list[Argument] = []
        for line, period in shares:
            kind = "w" if period is None else "b"
            lines += [kind, permit.taken.get(line, permit.reserved.of(line)), actual.of(line), permit.slot]
        head: list[Argument] = [self._now(), permit.number]
        try:
            spent = await self._link.call(self._settle, keys, [*head, int(first), *lines], again=[*head, 0, *lines])
        except RedisGone:
            return  # `problem` says so; the reservation lapses into spent
        budgets = [(line.account, period.name) for line, period in shares if period is not None]
        self._totals.update({key: int(total) / 1e9 for key, total in zip(budgets, spent, strict=True) if total})

    def _clear_doubts(self) -> None:
        """Give back what Redis may have reserved without being able to say so."""
        while self._doubtful:
            self._start(self._settle_shared(self._doubtful.popleft(), NOTHING, first=False))

    def _keys(self, line: Line, period: Period | None) -> list[str]:
        scope, subject = line.account
        if period is None:
            return [f"{self._prefix}:{line.measure}:{scope}:{subject}"]
        return [f"{self._prefix}:{kind}:{period.name}:{scope}:{subject}" for kind in ("budget", "holds")]

    def _period(self, line: Line) -> Period | None:
        return self._periods.at(line.measure, self._clock()) if line.measure in ("day", "month") else None

    def _lives_s(self, period: Period) -> int:
        return max(int(period.ends_at - self._clock()), 0) + KEPT_S

    def _now(self) -> str:
        return "" if self._redis_clock is None else repr(self._redis_clock())

    def _keep(self, lines: frozenset[Line]) -> None:
        self._met = {line: period for line, period in self._met.items() if line in lines}

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits is told
