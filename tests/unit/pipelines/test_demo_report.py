from __future__ import annotations

import numpy as np
import pytest

from experiments.ab_test import Arm, Plan, compare
from modelyard.registry.champions import Current, write_current
from modelyard.settings import Settings
from pipelines.demo_report import Replays, Standing, farewell, standings

N = 60


def compared(settings: Settings, baseline: Arm, *others: Arm, serving: str | None) -> tuple[Standing, ...]:
    """Compare, and let the gate have made `serving` the champion."""
    plan = Plan("router", baseline.name, tuple(arm.name for arm in others), 0.02, "5f3a", resamples=1000)
    comparison = compare([baseline, *others], plan=plan, domains=["chat"] * N)
    if serving is not None:
        write_current("router", Current(serving, "ab" * 32), settings)
    verdict = comparison.verdict(others[0].name, "run-1")
    return standings(Replays(comparison, (baseline, *others)), verdict, settings, seed=0)


def arm(name: str, score: float, version: str | None = None) -> Arm:
    scores = score + np.linspace(-0.1, 0.1, N)
    return Arm(name, scores, np.full(N, 0.001), version)


@pytest.mark.parametrize(
    ("baseline", "serving", "named"),
    [
        (arm("static:a", 0.5), "1", [("router 1", "champion"), ("static:a", "baseline")]),
        (arm("static:a", 0.5), None, [("router 1", "challenger"), ("static:a", "baseline")]),
    ],
    ids=["promoted", "refused"],
)
def test_first_router_is_called_what_it_is_after_the_gate(
    settings: Settings, baseline: Arm, serving: str | None, named: list[tuple[str, str]]
) -> None:
    found = compared(settings, baseline, arm("challenger", 0.7, "1"), serving=serving)
    assert [(row.name, row.role) for row in found] == named


@pytest.mark.parametrize(
    ("serving", "named"),
    [
        ("2", [("router 2", "champion"), ("router 1 (champion before)", "baseline"), ("cheapest", "baseline")]),
        ("1", [("router 1", "champion"), ("router 2", "challenger"), ("cheapest", "baseline")]),
    ],
    ids=["promoted", "refused"],
)
def test_later_router_is_held_against_the_champion(
    settings: Settings, serving: str, named: list[tuple[str, str]]
) -> None:
    others = (arm("challenger", 0.7, "2"), arm("cheapest", 0.4))
    found = compared(settings, arm("champion", 0.6, "1"), *others, serving=serving)
    assert [(row.name, row.role) for row in found] == named


def test_closing_table_shows_score_and_cost(settings: Settings) -> None:
    found = compared(settings, arm("static:a", 0.5), arm("challenger", 0.7, "1"), serving="1")
    shown = farewell(found, settings, settings.home / "demo.json", 12.3)
    (line,) = [line for line in shown.splitlines() if line.startswith("router 1")]
    assert line.split()[2:4] == ["champion", "0.700"]
    assert "1.0000 [1.0000, 1.0000]" in line
    assert "60 test prompts" in shown
