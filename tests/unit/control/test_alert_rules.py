from __future__ import annotations

import math
from pathlib import Path

import pytest

from modelyard.control.alert_rules import AlertRules
from modelyard.errors import InvalidSetting

TOML = """
[rules.spending]
metric = "cost_usd"
above = 50.0
window_s = 86400
per = "project"
severity = "critical"

[savings]
least_usd_a_day = 5.0
"""


def test_rules_are_read_from_toml_and_json(tmp_path: Path):
    toml, json = tmp_path / "alerts.toml", tmp_path / "alerts.json"
    toml.write_text(TOML)
    json.write_text(AlertRules.read(toml).model_dump_json())

    rules = AlertRules.read(toml)
    assert (rules.rules["spending"].above, rules.rules["spending"].per) == (50.0, "project")
    assert (rules.savings.least_usd_a_day, rules.savings.margin) == (5.0, 0.02)
    assert AlertRules.read(json) == rules


def test_without_a_file_there_are_rules_for_errors_and_latency_and_none_for_spending():
    metrics = {rule.metric for rule in AlertRules().rules.values()}
    assert {"error_rate", "p95_latency_ms"} <= metrics
    assert "cost_usd" not in metrics


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rules = 3", "rules is invalid"),
        ("[rules.a]\nmetric = 'cost_usd'", r"rules\.a\.above is invalid \(Field required\)"),
        ("[rules.a]\nmetric = 'speed'\nabove = 1", r"rules\.a\.metric is invalid"),
        ("[rules.a]\nmetric = 'cost_usd'\nabove = -1", r"rules\.a\.above is invalid .*got -1"),
        ("[rules.a]\nmetric = 'error_rate'\nabove = 5", "error_rate is a share and never above 5"),
        ("[rules.a]\nmetric = 'cost_usd'\nabove = 1\nwindow = 3", r"rules\.a\.window is invalid"),
        (f"[rules.{'a' * 41}]\nmetric = 'cost_usd'\nabove = 1", "at most 40 characters"),
        ("[savings]\nmargin = 2", r"savings\.margin is invalid"),
        ("[rules", "Cannot read the alert rules"),
    ],
)
def test_a_rule_that_is_not_valid_is_named(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    with pytest.raises(InvalidSetting, match=reason):
        AlertRules.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InvalidSetting, match=r"missing\.toml"):
        AlertRules.read(tmp_path / "missing.toml")


def test_a_line_must_be_a_number_that_can_be_stored():
    with pytest.raises(InvalidSetting, match="finite"):
        AlertRules.of({"rules": {"a": {"metric": "cost_usd", "above": math.inf}}}, "here")
