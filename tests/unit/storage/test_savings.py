from __future__ import annotations

from datetime import timedelta

import pytest

from modelyard.errors import InvalidInput
from modelyard.storage import Database
from modelyard.storage.analytics import SavingOpportunity, saving_opportunities
from tests.unit.storage.usage_rows import NEW_YEAR, message_row, store, usage_row

Candidates = dict[str, tuple[float | None, float]]  # model: predicted quality, predicted cost
EQUAL: Candidates = {"lg": (0.80, 0.04), "md": (0.79, 0.01), "sm": (0.60, 0.001)}
WORSE: Candidates = {"lg": (0.80, 0.04), "md": (0.60, 0.01), "sm": (0.60, 0.001)}


def _request(candidates: Candidates, *, model: str = "lg", domain: str = "forms", day: float = 0.0, cost: float = 2.0):
    weighed = [{"model": name, "quality": quality, "cost_usd": usd} for name, (quality, usd) in candidates.items()]
    at = NEW_YEAR + timedelta(days=day)
    message = message_row(
        model=model, domain=domain, created_at=at, model_metadata={"route": {"model": model, "candidates": weighed}}
    )
    usage = usage_row(message_id=message.id, model=model, domain=domain, created_at=at, cost_usd=cost)
    return message, usage


def _store(database: Database, *requests) -> None:
    store(database, *(row for request in requests for row in request))


def test_share_and_usd_a_day_of_traffic_predicted_equal_on_a_cheaper_model(database: Database) -> None:
    _store(
        database,
        *(_request(EQUAL, day=day) for day in (0, 1, 2)),
        _request(WORSE, day=3),
        _request(EQUAL, model="md", domain="css"),
    )
    found = saving_opportunities(database, NEW_YEAR, until=NEW_YEAR + timedelta(days=4))
    # Three of four calls at $ 2 would have cost a quarter: 3 × 1.5 over four days.
    assert found == (SavingOpportunity("forms", "lg", "md", 4, 0.75, pytest.approx(1.125)),)


def test_a_wider_margin_finds_more_and_the_alternative_that_saves_most(database: Database) -> None:
    _store(database, _request(EQUAL), _request(WORSE))
    (found,) = saving_opportunities(database, NEW_YEAR, until=NEW_YEAR + timedelta(days=1), margin=0.25)
    assert (found.alternative, found.share) == ("sm", 1.0)
    assert found.usd_a_day == pytest.approx(2 * 2.0 * (1 - 0.001 / 0.04))


def test_what_was_not_predicted_saves_nothing(database: Database) -> None:
    _store(
        database,
        _request({"lg": (None, 0.04), "md": (None, 0.01)}),
        _request({"lg": (0.8, 0.0), "md": (0.8, 0.0)}),
        _request({"lg": (0.8, 0.01), "md": (0.9, 0.01)}),
    )
    store(database, message := message_row(), usage_row(message_id=message.id), usage_row())
    assert saving_opportunities(database, NEW_YEAR) == ()


def test_a_young_yard_is_not_taken_for_an_idle_one(sqlite: Database) -> None:
    _store(sqlite, _request(EQUAL, day=5), _request(EQUAL, day=6))
    (found,) = saving_opportunities(sqlite, NEW_YEAR, until=NEW_YEAR + timedelta(days=7))
    assert found.usd_a_day == pytest.approx(2 * 1.5 / 2)
    (found,) = saving_opportunities(sqlite, NEW_YEAR, until=NEW_YEAR + timedelta(days=5, hours=1))
    assert found.usd_a_day == pytest.approx(1.5), "an hour's saving is no more than a day's"


def test_failures_and_cache_hits_are_no_traffic(sqlite: Database) -> None:
    for column, value in (("status", "failed"), ("cache_hit", True), ("kind", "orphan")):
        message, usage = _request(EQUAL)
        setattr(usage, column, value)
        store(sqlite, message, usage)
    assert saving_opportunities(sqlite, NEW_YEAR) == ()


def test_negative_margin_is_refused(sqlite: Database) -> None:
    with pytest.raises(InvalidInput, match=r"must not be negative, but got -0\.1"):
        saving_opportunities(sqlite, NEW_YEAR, margin=-0.1)
