"""Which limits a call stands under, and how a refusal is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelyard.control.budgets import HELD, MOST_NANO, SPENT, nano
from modelyard.control.principals import Principal
from modelyard.control.quotas import Account, Quota, Quotas
from modelyard.errors import InvalidInput, LimitExceeded

Measure = Literal["requests", "tokens", "day", "month"]
NO_MODEL: Final = ""  # what a request asks for that calls none: it costs nothing, and counts as a request alone
HELD_RETRY_S: Final = 1.0  # calls under way end about that often


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One limit of one account: a count in 60 s, or billionths of a USD in a UTC day or month.

    It stays the same object as long as the account's quota does.
    """

    account: Account
    measure: Measure
    limit: int

    @property
    def is_budget(self) -> bool:
        """Whether it limits money."""
        return self.measure in {"day", "month"}


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a call takes of each measure, at most or in the end.

    `least` is set where nobody knows how long an answer will be: tokens that the call takes in any case. It is let through where they
    fit, and then takes what is left of the minute, as far as its longest answer could.
    """

    tokens: int
    nano: int
    least: int | None = None

    def of(self, line: Line) -> int:
        """Return what it takes of a line."""
        if line.is_budget:
            return self.nano
        return self.tokens if line.measure == "tokens" else 1

    def least_of(self, line: Line) -> int:
        """Return how much of a line must be left for it."""
        return self.least if self.least is not None and line.measure == "tokens" else self.of(line)


NOTHING: Final = Amounts(0, 0)


def amounts(tokens: float, cost_usd: float, least_tokens: float | None = None) -> Amounts:
    """Return a call's amounts, rounded up; see `Amounts` for the least tokens.

    Raises:
        InvalidInput: A number is negative or not a number.
    """
    if not (tokens >= 0 and cost_usd >= 0):
        raise InvalidInput(f"Tokens and cost must not be negative, but got {tokens!r} and {cost_usd!r}.")
    least = None if least_tokens is None else math.ceil(min(least_tokens, tokens, MOST_NANO))
    return Amounts(math.ceil(tokens) if tokens < MOST_NANO else MOST_NANO, nano(cost_usd), least)


class Lines:
    """The limits of all accounts, following the quotas.

    Args:
        quotas: The quotas.
        changed: Called with all lines whenever a quota has changed.
    """

    def __init__(self, quotas: Quotas, changed: Callable[[frozenset[Line]], None]) -> None:
        self._quotas, self._changed = quotas, changed
        self._seen: Mapping[Account, Quota] | None = None
        self._lines: dict[Account, tuple[Line, ...]] = {}

    async def over(self, principal: Principal, model_type: str) -> tuple[Line, ...]:
        """Return every limit that a call stands under: its key's, its project's and its model type's; of `NO_MODEL` those of requests.

        Raises:
            StorageError: The quotas were never read, and cannot be.
        """
        quotas = self._quotas.fresh()
        if quotas is None:
            quotas = await self._quotas.current()
        if quotas is not self._seen:
            self._follow(quotas)
        found = self._lines.get(("model_type", model_type), ())
        if principal.project is not None:
            found = self._lines.get(("project", principal.project), ()) + found
        if principal.key_id is not None:
            found = self._lines.get(("key", principal.key_id), ()) + found
        if model_type == NO_MODEL:
            return tuple(line for line in found if line.measure == "requests")
        return found

    def _follow(self, quotas: Mapping[Account, Quota]) -> None:
        before, self._seen = self._seen or {}, quotas
        if quotas != before:
            self._lines = {
                account: self._lines[account] if before.get(account) == quota else _lines(quota)
                for account, quota in quotas.items()
            }
            self._changed(frozenset(line for lines in self._lines.values() for line in lines))


def refusal(
    principal: Principal, line: Line, wait: float, period_left_s: float, *, open_ended: bool = False
) -> LimitExceeded:
    """Say that a line is reached.

    Args:
        principal: Who called.
        line: The line.
        wait: Seconds, infinity (never), or `SPENT` or `HELD`.
        period_left_s: Seconds until the line's day or month is over, where it has one.
        open_ended: Whether the call would have taken less with a `max_tokens`.
    """
    whose = _whose(principal, line.account)
    if not line.is_budget:
        what = f"{line.limit} {line.measure} a minute of {whose}"
        if wait == math.inf:
            return LimitExceeded(f"This call alone is over the limit of {what}.", retry_after_s=None)
        return LimitExceeded(f"The limit of {what} is reached.", retry_after_s=wait)
    what = f"USD {line.limit / 1e9:.10g} a {line.measure} of {whose}"
    end = "; with max_tokens it would take less." if open_ended else "."
    if wait == math.inf:
        sentence = f"This call alone may cost more than the budget of {what}{end}"
        return LimitExceeded(sentence, retry_after_s=None, kind="budget")
    if wait == HELD:
        sentence = f"The budget of {what} is reserved by calls under way."
        return LimitExceeded(sentence, retry_after_s=HELD_RETRY_S, kind="budget")
    sentence = f"The budget of {what} is too nearly spent for this call{end}"
    return LimitExceeded(sentence, retry_after_s=period_left_s, kind="budget")


def worst(found: Mapping[Line, float]) -> tuple[Line, float]:
    """Return the line that holds a call up longest."""
    return max(found.items(), key=lambda item: _LONGEST.get(item[1], item[1]))


# Money that is spent comes back in hours at best, money that is reserved sooner than a rate that is reached.
_LONGEST: Final = {SPENT: 1e9, HELD: 0.0}


def _whose(principal: Principal, account: Account) -> str:
    scope, subject = account
    if scope == "model_type":
        return f"the model {subject!r}"
    if scope == "project":
        return f"the project {(principal.project_name or subject)!r}"
    return f"the key {principal.name!r}"


def _lines(quota: Quota) -> tuple[Line, ...]:
    account: Account = (quota.scope, quota.subject)
    limits: dict[Measure, int | None] = {
        "requests": quota.requests_per_minute,
        "tokens": quota.tokens_per_minute,
        "day": None if quota.usd_per_day is None else nano(quota.usd_per_day),
        "month": None if quota.usd_per_month is None else nano(quota.usd_per_month),
    }
    return tuple(Line(account, measure, limit) for measure, limit in limits.items() if limit is not None)
