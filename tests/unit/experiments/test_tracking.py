from __future__ import annotations

import json
import logging
import os
import time

import pytest

from experiments.tracking import Tracker, new_figure, read_json, start
from modelyard.errors import InvalidInput


def test_run_keeps_what_was_logged(tracker: Tracker) -> None:
    with tracker.run("whole", tags={"kind": "test"}, params={"depth": 3, "long": "x" * 9000}) as run:
        run.log_metrics({"score": 0.5, "undefined": float("nan"), "score.learned:a/b@c": 1.0})
        run.log_series("loss", [3.0, 2.0, float("nan"), 1.0])
        run.log_dataset("web_tasks", "ab" * 32, "eval_sets/web_tasks", rows=360)
        run.log_json({"a": [1, "é"]}, "facts/a.json")
        figure = new_figure()
        figure.subplots().plot([0, 1])
        run.log_figure(figure, "figures/line.png")
    found = tracker.client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params["depth"] == "3"
    assert found.data.metrics["score"] == 0.5
    assert found.data.metrics["score.learned:a/b_c"] == 1.0
    assert found.data.tags["modelyard.undefined"] == "undefined"
    assert found.data.tags["modelyard.data.evaluation"] == "ab" * 32
    assert [(m.step, m.value) for m in tracker.client.get_metric_history(run.id, "loss")] == [
        (0, 3.0),
        (1, 2.0),
        (3, 1.0),
    ]
    assert [d.dataset.name for d in found.inputs.dataset_inputs] == ["web_tasks"]
    assert read_json(tracker.settings, run.id, "facts/a.json") == {"a": [1, "é"]}
    assert [f.path for f in tracker.client.list_artifacts(run.id, "figures")] == ["figures/line.png"]
    assert found.info.artifact_uri.startswith(tracker.settings.artifacts.as_uri())


def test_more_metrics_than_one_batch_holds(tracker: Tracker) -> None:
    with tracker.run("many") as run:
        run.log_metrics({f"m{i}": float(i) for i in range(1500)})
        run.log_params({f"p{i}": i for i in range(150)})
    found = tracker.client.get_run(run.id).data
    assert (len(found.metrics), len(found.params)) == (1500, 150)


def test_child_run_names_its_parent(tracker: Tracker) -> None:
    with tracker.run("parent") as parent, tracker.run("child", parent=parent) as child:
        pass
    assert tracker.client.get_run(child.id).data.tags["mlflow.parentRunId"] == parent.id


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_run_that_breaks_says_so(tracker: Tracker, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracker.run("broken") as run:
        raise error
    assert tracker.client.get_run(run.id).info.status == status


def test_experiment_is_made_once(tracker: Tracker) -> None:
    assert start(tracker.settings, "of-this-test").experiment_id == tracker.experiment_id


def test_missing_artifact_is_named(tracker: Tracker) -> None:
    with tracker.run("empty") as run:
        pass
    with pytest.raises(InvalidInput, match=f"The run '{run.id}' has no verdict.json"):
        read_json(tracker.settings, run.id, "verdict.json")
    with pytest.raises(InvalidInput, match="The run 'nowhere' has no verdict"):
        read_json(tracker.settings, "nowhere", "verdict.json")


def test_tracking_is_quiet_and_leaves_no_global_state(tracker: Tracker, capfd: pytest.CaptureFixture[str]) -> None:
    before = os.environ.get("MLFLOW_TRACKING_URI")
    with tracker.run("quiet") as run:
        run.log_metrics({"a": 1.0})
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("mlflow").level == logging.WARNING
    assert os.environ.get("MLFLOW_TRACKING_URI") == before


def test_run_is_fast(tracker: Tracker) -> None:
    begin = time.perf_counter()
    for number in range(5):
        with tracker.run(f"run-{number}", params={"a": 1}) as run:
            run.log_metrics({f"m{i}": 1.0 for i in range(30)})
    assert (time.perf_counter() - begin) / 5 < 1.0  # 0.05 s on an idle machine


def test_json_artifact_is_plain_json(tracker: Tracker) -> None:
    with tracker.run("json") as run:
        run.log_json({"b": 1}, "b.json")
    path = tracker.settings.artifacts / run.id / "artifacts" / "b.json"
    assert json.loads(path.read_text()) == {"b": 1}
