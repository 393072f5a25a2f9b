from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.registry.mlflow_store import MlflowStore
from modelyard.serving.background import Background
from modelyard.serving.traces import EXPERIMENT, Traces
from modelyard.settings import Settings
from tests.unit.registry.tracking_server import tracking_server
from tests.unit.serving.ended import PROMPT, TEXT, answer, attempts_in_vain, message, plan, upstream_error

WRITTEN_S = 120.0


def traced(settings: Settings, report: Callable[[Traces], None]) -> list[Any]:
    """Return what MLflow kept of the requests, newest first."""
    traces = Traces(settings)
    report(traces)
    waited = time.monotonic() + WRITTEN_S  # the first one makes MLflow's tables
    while traces._queue and traces._queue.handled + traces._queue.failed < 1 and time.monotonic() < waited:
        time.sleep(0.05)
    traces.close()
    assert (traces.problem, traces.dropped) == (None, 0)
    client = MlflowStore(settings).client
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return list(client.search_traces(locations=[experiment.experiment_id]))


def sampled(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"trace_share": 1.0, **changes})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tracking_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


def test_without_a_share_nothing_is_traced_and_nothing_is_made(settings: Settings) -> None:
    traces = Traces(settings)
    traces.answered(message(), answer(message()), composite="auto", ms=1.0)
    traces.close()
    assert not traces.enabled
    assert not settings.home.exists()


def test_share_is_drawn_for_each_request(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.1, 0.3, 0.24, 0.9])
    traces = Traces(settings.model_copy(update={"trace_share": 0.25}), lambda: next(draws))
    put: list[Any] = []
    monkeypatch.setattr(traces._queue, "put", put.append)
    for name in ("a", "b", "c", "d"):
        traces.failed(message(), None, upstream_error(), (), composite=name, ms=1.0)
    assert [request.composite for request in put] == ["a", "c"]


def test_store_that_cannot_be_opened_is_a_problem_and_no_error(settings: Settings) -> None:
    broken = sampled(settings, mlflow_uri="http://ada:secret@127.0.0.1:9")
    settings.home.mkdir(parents=True)
    traces = Traces(broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        traces.answered(message(), answer(message()), composite="auto", ms=1.0)
        assert traces._queue is not None
        deadline = time.monotonic() + WRITTEN_S
        while not traces._queue.failed and time.monotonic() < deadline:
            time.sleep(0.05)
        traces.close()
    assert traces.problem is not None
    assert "does not answer" in traces.problem
    assert "secret" not in traces.problem


@pytest.mark.slow
def test_trace_in_mlflows_own_store_shows_steps_and_calls_and_no_text(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    asked = message()
    (found,) = traced(
        sampled(settings),
        lambda t: t.answered(asked, answer(asked), composite="auto", ms=60.0, request_id="r-1"),
    )
    assert found.info.client_request_id == asked.id
    assert (str(found.info.state), found.info.execution_duration) == ("OK", 60)
    assert found.info.tags["modelyard.request_id"] == "r-1"
    assert found.info.token_usage == {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}
    spans = {span.name: span for span in found.data.spans}
    names = {span.span_id: span.name for span in found.data.spans}
    assert {name: names.get(span.parent_id) for name, span in spans.items()} == {
        "chat auto": None, "classify": "chat auto", "route": "chat auto", "retrieve": "chat auto",
        "generate": "chat auto", "chat sm": "generate", "chat lg": "generate", "post-process": "chat auto",
    }  # fmt: skip
    assert spans["chat lg"].span_type == "CHAT_MODEL"
    assert spans["retrieve"].span_type == "RETRIEVER"
    assert spans["chat sm"].attributes["error.type"] == "server"
    assert list(elsewhere.iterdir()) == [], "MLflow's default store is the application's"
    kept = found.to_json()
    for text in (PROMPT, "Why is my form slow", "ada@example.org", TEXT):
        assert text not in kept


@pytest.mark.slow
def test_trace_at_a_tracking_server_shows_redacted_texts_where_switched_on(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    asked = message()
    settings = Settings(home=tmp_path / "yard", mlflow_uri=server, trace_share=1.0, log_prompts=True)

    def report(traces: Traces) -> None:
        traces.failed(asked, plan(), upstream_error(), attempts_in_vain(), composite="auto", ms=60.0)
        traces.answered(asked, answer(asked), composite="auto", ms=60.0)

    found = {str(trace.info.state): trace for trace in traced(settings, report)}
    assert set(found) == {"OK", "ERROR"}
    (root,) = [span for span in found["OK"].data.spans if span.parent_id is None]
    assert (
        root.inputs["messages"][1]["parts"][0]["content"] == "Why is my form slow? I am [e-mail] and my key is [key]."
    )
    assert root.outputs["messages"][0]["parts"][0]["content"] == TEXT
    assert found["OK"].info.request_preview == "Why is my form slow? I am [e-mail] and my key is [key]."
    assert found["ERROR"].info.tags["modelyard.status"] == "timeout"
    assert "ada@example.org" not in found["ERROR"].to_json()


def test_slow_handler_costs_items_and_holds_nobody_up() -> None:
    going, handled = threading.Event(), list[int]()

    def slow(item: int) -> None:
        going.wait(30.0)
        handled.append(item)

    queue = Background("slow", slow, 2)
    taken = [queue.put(number) for number in range(5)]
    assert taken[:2] == [True, True]
    assert queue.dropped == taken.count(False) >= 2
    going.set()
    queue.close()
    assert handled == [number for number, put in enumerate(taken) if put]
    assert not queue.put(9)


def test_failing_item_does_not_end_the_thread() -> None:
    handled = list[int]()

    def picky(item: int) -> None:
        if item == 1:
            raise ValueError("not this one")
        handled.append(item)

    queue = Background("picky", picky, 10)
    for number in range(3):
        queue.put(number)
    queue.close()
    assert (handled, queue.handled, queue.failed, queue.problem) == ([0, 2], 2, 1, None)


def test_close_does_not_wait_for_a_handler_that_hangs() -> None:
    going = threading.Event()

    def hangs(_: int) -> None:
        going.wait(30.0)

    queue = Background("hangs", hangs, 10)
    queue.put(1)
    queue.put(2)
    queue.close(timeout_s=0.05)
    assert queue.dropped >= 1
    assert queue.waiting == 0
    going.set()
