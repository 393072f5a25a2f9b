from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from classifiers.search_spaces import Choice, Real, Space, Whole
from experiments.objectives import TaskObjective
from experiments.studies import StudyPlan
from experiments.tracking import Tracker
from experiments.tuning import draw_history, tune
from modelyard.errors import InvalidInput

SPACE: Space = {"x": Real(-4.0, 4.0), "k": Whole(1, 64, log=True), "kind": Choice(("bent", "straight"))}
START = {"x": 3.0, "k": 2, "kind": "straight"}
PLAN = StudyPlan("parabola", "loss", "minimize", 12, START, seed=1)


def parabola(values: Mapping[str, Any]) -> Mapping[str, float]:
    bend = 0.0 if values["kind"] == "bent" else 1.0
    return {"loss": (values["x"] - 1.0) ** 2 + bend + values["k"] / 100, "x": values["x"]}


def fails_left(values: Mapping[str, Any]) -> Mapping[str, float]:
    if values["x"] < 0:
        raise InvalidInput("x is left of zero")
    return parabola(values)


def fails_always(values: Mapping[str, Any]) -> Mapping[str, float]:
    raise InvalidInput("nothing works")


def children(tracker: Tracker, parent: str) -> list[Any]:
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    return tracker.client.search_runs([tracker.experiment_id], query, order_by=["attributes.start_time"])


def test_study_begins_with_the_defaults_and_does_not_end_below_them(tracker: Tracker) -> None:
    found = tune(parabola, SPACE, PLAN, tracker)
    assert len(found.history) == 12
    assert found.first == found.history[0] == parabola(START)["loss"]
    assert found.best == min(found.history) == parabola(found.values)["loss"] < found.first


def test_every_trial_is_a_child_run(tracker: Tracker) -> None:
    found = tune(parabola, SPACE, replace(PLAN, trials=4), tracker)
    runs = children(tracker, found.run_id)
    assert [run.data.metrics["loss"] for run in runs] == pytest.approx(list(found.history))
    assert runs[0].data.params == {"x": "3.0", "k": "2", "kind": "straight"}
    parent = tracker.client.get_run(found.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best.loss"] == found.best
    assert {"history.png", "tuned.json"} <= {f.path for f in tracker.client.list_artifacts(found.run_id)}


def test_same_seed_makes_the_same_trials(tracker: Tracker) -> None:
    first = tune(parabola, SPACE, replace(PLAN, name="one"), tracker)
    second = tune(parabola, SPACE, replace(PLAN, name="two"), tracker)
    assert first.history == second.history


def test_study_goes_on_under_its_name_and_its_run(tracker: Tracker) -> None:
    first = tune(parabola, SPACE, replace(PLAN, trials=3), tracker)
    second = tune(parabola, SPACE, replace(PLAN, trials=8), tracker)
    assert second.run_id == first.run_id
    assert second.history[:3] == first.history
    assert len(set(second.history)) == 8
    assert len(children(tracker, first.run_id)) == 8
    again = tune(parabola, SPACE, replace(PLAN, trials=8), tracker)
    assert again.history == second.history


def test_study_that_was_interrupted_makes_the_lost_trial_again(tracker: Tracker) -> None:
    calls: list[float] = []

    def interrupted(values: Mapping[str, Any]) -> Mapping[str, float]:
        calls.append(values["x"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return parabola(values)

    with pytest.raises(KeyboardInterrupt):
        tune(interrupted, SPACE, replace(PLAN, trials=4), tracker)
    found = tune(parabola, SPACE, replace(PLAN, trials=4), tracker)
    assert (len(found.history), found.failed) == (4, 1)


def test_study_interrupted_in_its_first_trial_still_begins_with_the_defaults(tracker: Tracker) -> None:
    def interrupted(values: Mapping[str, Any]) -> Mapping[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(interrupted, SPACE, PLAN, tracker)
    assert tune(parabola, SPACE, replace(PLAN, trials=2), tracker).first == parabola(START)["loss"]


def test_failed_trial_ends_no_study(tracker: Tracker) -> None:
    found = tune(fails_left, SPACE, PLAN, tracker)
    assert found.failed > 0
    assert len(found.history) + found.failed == 12
    assert found.values["x"] >= 0
    assert [run.info.status for run in children(tracker, found.run_id)].count("FAILED") == found.failed


def test_study_whose_every_trial_failed_says_why(tracker: Tracker) -> None:
    with pytest.raises(InvalidInput, match="Every trial of the study 'parabola' failed, the last with: nothing works"):
        tune(fails_always, SPACE, replace(PLAN, trials=2), tracker)


def test_metric_must_be_the_objectives(tracker: Tracker) -> None:
    with pytest.raises(InvalidInput, match="gives loss, x, but the study tunes 'accuracy'"):
        tune(parabola, SPACE, replace(PLAN, metric="accuracy", trials=1), tracker)


def test_direction_cannot_change(tracker: Tracker) -> None:
    tune(parabola, SPACE, replace(PLAN, trials=1), tracker)
    with pytest.raises(InvalidInput, match="was begun to minimize, not to maximize"):
        tune(parabola, SPACE, replace(PLAN, trials=2, direction="maximize"), tracker)


@pytest.mark.parametrize("change", [{"name": "../x"}, {"trials": 0}, {"workers": 0}])
def test_plan_states_its_rules(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="A study"):
        replace(PLAN, **change)


def test_history_figure_has_every_trial(tracker: Tracker) -> None:
    found = tune(parabola, SPACE, replace(PLAN, trials=5), tracker)
    trials, best = draw_history(found, PLAN).axes[0].lines
    assert list(trials.get_ydata()) == list(found.history)
    assert best.get_ydata()[-1] == found.best


@pytest.mark.slow
def test_trials_in_other_processes(tracker: Tracker) -> None:
    texts = tuple(f"{word} number {i}" for i in range(20) for word in ("sum", "style"))
    objective = TaskObjective(texts, {"domain": ("maths", "css") * 20}, folds=2)
    space: Space = {"encoder.chars": Choice(("none",)), "strength": Real(0.1, 10.0, log=True)}
    plan = StudyPlan("pool", "log_loss", "minimize", 3, {"encoder.chars": "none", "strength": 1.0}, workers=2)
    assert len(tune(objective, space, plan, tracker).history) == 3
