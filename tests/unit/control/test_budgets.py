from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from modelyard.control.budgets import HELD, SPENT, Budget, nano, period_at, save_spending, spent_usd
from modelyard.storage import Database
from tests.unit.control.usage import store, usage

LIMIT = 100


class Spending(RuleBasedStateMachine):
    """Calls come, end, are given up or forgotten in any order, and none costs more than was reserved for it."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.budget, self.now, self.number, self.really_spent = Budget(), 0.0, 0, 0

    @rule(target=permits, amount=st.integers(0, 60))
    def admit(self, amount: int) -> tuple[int, int]:
        self.number += 1
        wait = self.budget.wait(amount, LIMIT, self.now)
        if wait == 0:
            self.budget.hold(self.number, amount, self.now + 60)
            return self.number, amount
        assert wait in {math.inf, SPENT, HELD}
        assert (wait == math.inf) == (amount > LIMIT)
        return 0, 0

    @rule(permit=consumes(permits), share=st.floats(0, 1))
    def settle(self, permit: tuple[int, int], share: float) -> None:
        number, amount = permit
        if number:
            actual = round(amount * share)
            self.budget.settle(number, amount, actual)
            self.really_spent += actual

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_budget_is_never_passed(self) -> None:
        assert self.really_spent <= self.budget.spent + self.budget.reserved <= LIMIT
        assert self.budget.reserved >= 0


TestSpending = Spending.TestCase


@given(st.floats(0, 9_000_000))
def test_money_is_rounded_up_to_a_billionth(usd: float):
    assert usd - 1e-9 <= nano(usd) / 1e9 <= usd * (1 + 1e-15) + 1.001e-9


@pytest.mark.parametrize(
    ("usd", "expected"), [(0, 0), (0.1, 100_000_000), (0.3, 300_000_000), (1e-10, 1), (math.inf, 2**53 - 1)]
)
def test_money_that_has_few_digits_is_exact(usd: float, expected: int):
    assert nano(usd) == expected


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)))
def test_a_period_holds_its_moment(at: datetime):
    for span, length in (("day", 10), ("month", 7)):
        period = period_at(span, at.timestamp())  # type: ignore[arg-type]
        assert period.starts_at <= at.timestamp() < period.ends_at
        assert period.name == at.isoformat()[:length]
        assert period_at(span, period.ends_at).starts_at == period.ends_at  # type: ignore[arg-type]


def test_spending_is_summed_by_account_and_period(database: Database):
    store(
        database,
        usage(api_key_id="k", project_id="p", composite="auto", cost_usd=1.0),
        usage(api_key_id="k", project_id="p", composite=None, model="md", cost_usd=2.0),
        usage(minutes_ago=24 * 60, api_key_id="k", project_id="p", composite="auto", cost_usd=4.0),
        usage(minutes_ago=24 * 60 * 20, api_key_id="k", project_id="p", composite="auto", cost_usd=8.0),
    )
    at = datetime(2026, 3, 14, 12, tzinfo=UTC).timestamp()
    day, month = period_at("day", at), period_at("month", at)
    assert spent_usd(database, ("key", "k"), day) == 3.0
    assert spent_usd(database, ("key", "k"), month) == 7.0
    assert spent_usd(database, ("project", "p"), month) == 7.0
    assert spent_usd(database, ("model_type", "auto"), month) == 5.0
    assert spent_usd(database, ("model_type", "md"), day) == 2.0
    assert spent_usd(database, ("key", "' OR 1=1 --"), month) == 0.0


def test_saved_totals_only_grow(database: Database):
    day = period_at("day", datetime(2026, 3, 14, 12, tzinfo=UTC).timestamp())
    for total in (2.0, 1.0, 3.0):
        save_spending(database, {(("key", "k"), day.name): total})
    store(database, usage(api_key_id="k", cost_usd=2.5))
    assert spent_usd(database, ("key", "k"), day) == 3.0
