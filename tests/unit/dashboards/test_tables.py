from typing import Any

import pytest

from dashboards import tables
from dashboards.queries import ServedCost
from dashboards.report import DemoReport, Estimate
from tests.unit.dashboards.sample import demo_report


def read(changes: dict[str, Any] | None = None) -> DemoReport:
    return DemoReport.model_validate(demo_report() | (changes or {}))


def test_champion_stands_above_the_baselines_which_go_by_score():
    table = tables.policies(read().router.policies)

    assert list(table.index) == ["learned", "static:local-md", "cheapest"]
    assert table.loc["learned", "Score"] == "0.655"
    assert table.loc["learned", "Score, 95 % interval"] == "0.615 to 0.695"
    assert table.loc["learned", "USD per 1,000 prompts"] == "0.0312"


def test_undefined_score_comes_last_and_says_why():
    router = demo_report()["router"]
    router["policies"][2]["score"] = {"value": None, "reason": "no prompts"}

    table = tables.policies(read({"router": router}).router.policies)

    assert list(table.index) == ["learned", "cheapest", "static:local-md"]
    assert table.loc["static:local-md", "Score"] == "undefined: no prompts"
    assert table.loc["static:local-md", "Score, 95 % interval"] == tables.ABSENT


def test_classifier_stands_beside_its_baselines():
    table = tables.classifier(read().classifier)

    assert table.loc["domain", "Macro-F1"] == "0.812"
    assert table.loc["complexity", "Macro-F1 of length only"] == "0.377"


def test_hit_rates_go_by_depth():
    table = tables.retrieval(read().retrieval)

    assert list(table.index) == ["1", "5", "10"]
    assert table.loc["10", "Hit rate"] == "0.900"


def test_latency_that_was_not_stored_is_absent_not_zero():
    table = tables.served_costs([ServedCost("local-sm", 1, 10, 5, 0.0, None, None)])

    assert table.loc["local-sm", "Median ms"] == tables.ABSENT


@pytest.mark.parametrize(
    ("usd", "shown"), [(0.0, "0"), (0.0000312, "0.000031"), (0.25, "0.250000"), (1234.5, "1,234.50")]
)
def test_money_tells_small_sums_from_nothing(usd: float, shown: str):
    assert tables.money(usd) == shown


def test_number_without_interval_shows_no_interval():
    assert tables.interval(Estimate(value=0.5)) == tables.ABSENT
