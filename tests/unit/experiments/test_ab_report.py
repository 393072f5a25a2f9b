from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.ab_report import draw, log_comparison, log_plan, verdict_file
from experiments.ab_test import Arm, Comparison, Plan, compare
from experiments.tracking import Tracker, read_json
from modelyard.errors import InvalidInput
from modelyard.registry.verdict import Verdict

PLAN = Plan("router", "cheapest", ("learned:models/a", "rules"), 0.02, "5f3a", resamples=1000)


def compared(plan: Plan) -> Comparison:
    base = np.random.default_rng(1).random(80)
    arms = [Arm(name, base + i / 10, base / 100) for i, name in enumerate((plan.baseline, *plan.challengers))]
    return compare(arms, plan=plan, domains=["chat"] * 80)


def test_plan_then_comparison_then_verdict(tracker: Tracker) -> None:
    with tracker.run("ab-test") as run:
        log_plan(run, PLAN)
        report = log_comparison(run, compared(PLAN), "ab-test")
    found = tracker.client.get_run(run.id).data
    assert found.tags["modelyard.plan"] == PLAN.sha256
    assert found.params["margin"] == "0.02"
    assert found.tags["outcome.rules"] == "better"
    assert found.metrics["difference.score.rules"] == pytest.approx(0.2)
    assert read_json(tracker.settings, run.id, "comparison.json") == report
    verdict = Verdict.from_json(read_json(tracker.settings, run.id, verdict_file("learned:models/a")))
    assert (verdict.run_id, verdict.challenger) == (run.id, "learned:models/a")
    assert "differences.png" in [f.path for f in tracker.client.list_artifacts(run.id)]


def test_margin_cannot_change_once_the_data_was_read(tracker: Tracker) -> None:
    with tracker.run("ab-test") as run:
        log_plan(run, PLAN)
        wider = compared(replace(PLAN, margin=0.2))
        with pytest.raises(InvalidInput, match=r"margin 0\.2\): a plan cannot change once the data was read"):
            log_comparison(run, wider, "ab-test")
        with pytest.raises(InvalidInput, match="has a plan already"):
            log_plan(run, wider.plan)
    assert not tracker.client.get_run(run.id).data.metrics


def test_comparison_without_a_plan_is_refused(tracker: Tracker) -> None:
    with tracker.run("ab-test") as run, pytest.raises(InvalidInput, match="began without a plan"):
        log_comparison(run, compared(PLAN), "ab-test")


def test_figure_shows_every_challenger() -> None:
    left, right = draw(compared(PLAN)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["learned:models/a\nbetter", "rules\nbetter"]
    assert "USD per 1000 prompts" in right.get_xlabel()
