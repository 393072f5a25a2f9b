from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from modelyard.errors import InvalidInput, InvalidSetting, LimitExceeded, MissingExtra
from modelyard.serving.reports import EndedInputs, parent_of
from modelyard.serving.telemetry import Telemetry
from modelyard.settings import Settings
from modelyard.types import Attempt, Usage
from tests.unit.serving.ended import GOOD, PROMPT, TEXT, answer, attempts_in_vain, message, plan, upstream_error
from tests.unit.serving.otlp_server import collector

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    before = trace.get_tracer_provider()
    yield
    assert trace.get_tracer_provider() is before, "the process's own provider is the application's"


def made(report: Callable[[Telemetry], None], *, log_prompts: bool = False) -> list[ReadableSpan]:
    """Return the spans, in the order in which they began."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry([exporter], log_prompts=log_prompts)
    report(telemetry)
    telemetry.close()
    assert telemetry.problem is None
    return sorted(exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0)))


def named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_without_an_exporter_nothing_is_kept_and_no_thread_is_made() -> None:
    telemetry = Telemetry()
    telemetry.answered(message(), answer(message()), composite="auto", ms=50.0)
    telemetry.failed(message(), None, upstream_error(), (), composite="auto", ms=50.0)
    telemetry.close()
    assert not telemetry.enabled
    assert (telemetry.dropped, telemetry.problem) == (0, None)


def test_answer_becomes_one_tree_of_spans() -> None:
    asked = message()
    spans = made(lambda t: t.answered(asked, answer(asked), composite="auto", ms=60.0, request_id="r-1"))
    root = named(spans, "chat auto")
    assert (root.parent, root.kind, root.status.status_code) == (None, SpanKind.SERVER, StatusCode.UNSET)
    assert [span.name for span in spans] == [
        "chat auto", "classify", "route", "retrieve", "generate", "chat sm", "chat lg", "post-process",
    ]  # fmt: skip
    assert root.context is not None
    ids = {span.context.span_id: span.name for span in spans if span.context}
    assert {span.name: ids[span.parent.span_id] for span in spans if span.parent} == {
        "classify": "chat auto", "route": "chat auto", "retrieve": "chat auto", "generate": "chat auto",
        "post-process": "chat auto", "chat sm": "generate", "chat lg": "generate",
    }  # fmt: skip
    assert len({span.context.trace_id for span in spans if span.context}) == 1


def test_attributes_follow_the_conventions() -> None:
    asked = message()
    spans = made(
        lambda t: t.answered(asked, answer(asked), composite="auto", ms=60.0, request_id="r-1", first_token_ms=25.0)
    )
    root = facts(named(spans, "chat auto"))
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "modelyard",
        "gen_ai.request.model": "auto",
        "gen_ai.response.model": "lg",
        "gen_ai.response.id": asked.id,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.025,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 50,
        "modelyard.request_id": "r-1",
        "modelyard.task.domain": "forms",
        "modelyard.route.model": "sm",
        "modelyard.fell_back": True,
        "modelyard.cost_usd": 0.002,
    }
    assert {name: root.get(name) for name in expected} == expected
    failed = named(spans, "chat sm")
    assert (failed.kind, failed.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert facts(failed)["error.type"] == "server"
    assert facts(failed)["http.response.status_code"] == 503
    assert facts(failed)["modelyard.deployment"] == "sm/one"
    assert "error.type" not in facts(named(spans, "chat lg"))
    assert facts(named(spans, "retrieve"))["gen_ai.operation.name"] == "retrieval"


def test_steps_stand_behind_each_other_and_calls_within_their_step() -> None:
    asked = message()
    spans = made(lambda t: t.answered(asked, answer(asked), composite="auto", ms=60.0))
    root = named(spans, "chat auto")
    assert root.start_time is not None and root.end_time is not None
    begins = {span.name: ((span.start_time or 0) - root.start_time) / 1e6 for span in spans}
    ends = {span.name: ((span.end_time or 0) - root.start_time) / 1e6 for span in spans}
    assert ends["chat auto"] == 60.0
    assert (begins["classify"], ends["route"], ends["retrieve"]) == (0.0, 3.0, 6.0)
    assert (begins["generate"], ends["generate"], ends["post-process"]) == (6.0, 46.0, 47.0)
    assert (begins["chat sm"], ends["chat sm"]) == (6.0, 16.0)
    assert (begins["chat lg"], ends["chat lg"]) == (26.0, 46.0)


def test_no_span_leaves_its_parent_where_times_do_not_add_up() -> None:
    asked = message()
    spans = made(lambda t: t.answered(asked, answer(asked), composite="auto", ms=8.0))
    by_id = {span.context.span_id: span for span in spans if span.context}
    for span in spans:
        assert (span.start_time or 0) <= (span.end_time or 0)
        if span.parent:
            parent = by_id[span.parent.span_id]
            assert (parent.start_time or 0) <= (span.start_time or 0)
            assert (span.end_time or 0) <= (parent.end_time or 0)


def test_failure_names_its_kind_and_keeps_its_calls() -> None:
    spans = made(lambda t: t.failed(message(), plan(), upstream_error(), attempts_in_vain(), composite="auto", ms=60.0))
    root = named(spans, "chat auto")
    assert root.status.status_code is StatusCode.ERROR
    assert facts(root)["error.type"] == "timeout"
    assert facts(root)["gen_ai.usage.input_tokens"] == 20
    assert "gen_ai.response.model" not in facts(root)
    assert named(spans, "generate").status.status_code is StatusCode.ERROR
    assert [facts(named(spans, name))["error.type"] for name in ("chat sm", "chat lg")] == ["server", "timeout"]


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (InvalidInput("no"), "InvalidInput", StatusCode.UNSET),
        (LimitExceeded("enough", retry_after_s=1.0), "rate", StatusCode.UNSET),
        (asyncio.CancelledError(), "cancelled", StatusCode.UNSET),
        (GeneratorExit(), "cancelled", StatusCode.UNSET),
        (ZeroDivisionError("oops"), "ZeroDivisionError", StatusCode.ERROR),
    ],
)
def test_only_what_is_not_the_callers_doing_is_an_error(error: BaseException, kind: str, status: StatusCode) -> None:
    (root,) = made(lambda t: t.failed(message(), None, error, (), composite="auto", ms=1.0))
    assert (facts(root)["error.type"], root.status.status_code) == (kind, status)


def test_prompts_answers_and_quotes_of_them_stay_at_home_unless_switched_on() -> None:
    asked = message()

    def report(telemetry: Telemetry) -> None:
        telemetry.answered(asked, answer(asked), composite="auto", ms=60.0)
        telemetry.failed(asked, plan(), upstream_error(), attempts_in_vain(), composite="auto", ms=60.0)

    for text in (PROMPT, "ada@example.org", "Why is my form slow", TEXT):
        assert text not in "".join(span.to_json() for span in made(report))
    shown = named(
        made(lambda t: t.answered(asked, answer(asked), composite="auto", ms=1.0), log_prompts=True), "chat auto"
    )
    prompt, said = json.loads(facts(shown)["gen_ai.input.messages"]), json.loads(facts(shown)["gen_ai.output.messages"])
    assert [turn["role"] for turn in prompt] == ["system", "user"]
    assert prompt[1]["parts"][0]["content"] == "Why is my form slow? I am [e-mail] and my key is [key]."
    assert said == [
        {"role": "assistant", "parts": [{"type": "text", "content": TEXT}], "finish_reason": "stop"},
    ]


def test_answer_from_the_cache_has_no_steps_and_costs_nothing() -> None:
    asked = message()
    (root,) = made(lambda t: t.answered(asked, answer(asked), composite="auto", ms=1.0, cache_hit=True))
    assert facts(root)["modelyard.cache_hit"] is True
    assert (facts(root)["modelyard.cost_usd"], facts(root)["gen_ai.usage.input_tokens"]) == (0.0, 0)


def test_callers_span_is_the_parent() -> None:
    asked = message()
    headers = {"traceparent": PARENT, "tracestate": "a=1", "authorization": "Bearer secret"}
    parent = parent_of(headers)
    assert parent == {"traceparent": PARENT, "tracestate": "a=1"}
    (root,) = made(lambda t: t.failed(asked, None, InvalidInput("no"), (), composite="auto", ms=1.0, parent=parent))
    assert root.parent is not None and root.context is not None
    assert format(root.parent.span_id, "016x") == "b7ad6b7169203331"
    assert format(root.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"


def test_span_that_the_caller_does_not_sample_is_not_exported() -> None:
    parent = {"traceparent": PARENT[:-2] + "00"}
    assert made(lambda t: t.failed(message(), None, InvalidInput("no"), (), composite="a", ms=1.0, parent=parent)) == []


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\x00\r\n" * 50])
def test_parent_that_is_none_is_ignored(header: str) -> None:
    (root,) = made(
        lambda t: t.failed(
            message(), None, InvalidInput("no"), (), composite="auto", ms=1.0, parent={"traceparent": header}
        )
    )
    assert root.parent is None


def test_no_parent_without_the_header() -> None:
    assert parent_of({"tracestate": "a=1"}) is None


def test_absurd_parameters_do_not_reach_the_collector() -> None:
    asked = message()
    asked.parameters.update({"seed": 10**30, "temperature": "hot", "top_p": True})  # type: ignore[attr-defined]
    (root,) = made(lambda t: t.failed(asked, None, InvalidInput("no"), (), composite="auto", ms=1.0))
    assert not {"gen_ai.request.seed", "gen_ai.request.temperature", "gen_ai.request.top_p"} & set(facts(root))


def test_too_many_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.serving.background.EVERY_S", 60.0)
    monkeypatch.setattr("modelyard.serving.telemetry.CAPACITY", 3)
    exporter = InMemorySpanExporter()
    telemetry = Telemetry([exporter])
    for _ in range(5):
        telemetry.failed(message(), None, InvalidInput("no"), (), composite="auto", ms=1.0)
    assert telemetry.dropped == 2
    telemetry.close()
    assert len(exporter.get_finished_spans()) == 3


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
    ],
)
def test_not_asked_for_is_off(settings: Settings, environ: dict[str, str]) -> None:
    assert not Telemetry.from_environment(settings, environ).enabled


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "must be otlp, console or none, but got 'zipkin'"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "TRACES_PROTOCOL must be http/protobuf.* but got 'http/json'",
        ),
    ],
)
def test_asked_for_what_there_is_not_is_told(settings: Settings, environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting, match=sentence):
        Telemetry.from_environment(settings, environ)


@pytest.mark.parametrize("environ", [ENDPOINT, {"OTEL_TRACES_EXPORTER": "otlp"}])
def test_exporter_that_is_not_installed_is_named(
    settings: Settings, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"^OpenTelemetry's variables ask for OTLP.* 'modelyard\[otlp\]'\.$"):
        Telemetry.from_environment(settings, environ)


def test_console_exporter_prints(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry.from_environment(settings, {"OTEL_TRACES_EXPORTER": "console"})
    telemetry.failed(message(), None, InvalidInput("no"), (), composite="auto", ms=1.0)
    telemetry.close()
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == "chat auto"
    assert printed["resource"]["attributes"]["service.name"] == "modelyard"


def test_service_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "helpdesk")
    (root,) = made(lambda t: t.failed(message(), None, InvalidInput("no"), (), composite="auto", ms=1.0))
    assert root.resource.attributes["service.name"] == "helpdesk"


def test_spans_arrive_over_otlp(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, require_service: Callable[[str, object], None]
) -> None:
    require_service("opentelemetry-exporter-otlp-proto-http", find_spec("opentelemetry.exporter.otlp.proto.http"))
    asked = message()
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        telemetry = Telemetry.from_environment(settings)
        telemetry.answered(asked, answer(asked, (GOOD,)), composite="auto", ms=60.0, parent={"traceparent": PARENT})
        telemetry.close()
        assert received.paths == ["/v1/traces"]
        (sent,) = received.requests
    spans = {span.name: span for span in sent.resource_spans[0].scope_spans[0].spans}
    assert set(spans) == {"chat auto", "classify", "route", "retrieve", "generate", "chat lg", "post-process"}
    assert spans["chat auto"].parent_span_id.hex() == "b7ad6b7169203331"
    assert spans["chat lg"].parent_span_id == spans["generate"].span_id
    sums = {fact.key: fact.value for fact in spans["chat auto"].attributes}
    assert sums["gen_ai.usage.output_tokens"].int_value == (GOOD.usage or Usage(0, 0, 0.0)).completion_tokens


@pytest.mark.parametrize(("kind", "operation"), [("embedding", "embeddings"), ("moderation", "moderations")])
def test_inputs_become_a_span_with_one_for_each_call(kind: Any, operation: str) -> None:
    usage = Usage(20, 0, 0.002, estimated=False)
    failed = Attempt("vec", "vec/one", "failed", "server: it says secret", 10.0, 503)
    good = Attempt("vec", "vec/two", "ok", "after server at vec/one", 20.0, 200, usage)
    record = EndedInputs.ended(kind, "emb-1", "vec", usage, None, (failed, good), 40.0, request_id="r-1")
    spans = made(lambda t: t.inputs(lambda: record))
    root = spans[0]
    assert [(span.name, span.kind) for span in spans] == [
        (f"{operation} vec", SpanKind.SERVER), (f"{operation} vec", SpanKind.CLIENT), (f"{operation} vec", SpanKind.CLIENT),
    ]  # fmt: skip
    expected = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": "vec",
        "gen_ai.usage.input_tokens": 20,
        "modelyard.cost_usd": 0.002,
        "modelyard.fell_back": True,
        "modelyard.attempts": 2,
        "modelyard.request_id": "r-1",
    }
    assert {name: facts(root).get(name) for name in expected} == expected
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]
    assert "secret" not in str([facts(span) for span in spans])


def test_inputs_without_an_answer_name_the_kind_of_fault() -> None:
    def record(error: BaseException) -> EndedInputs:
        return EndedInputs.ended("embedding", "emb-1", "vec", Usage(0, 0, 0.0), error, (), 1.0)

    (root,) = made(lambda t: t.inputs(lambda: record(upstream_error())))
    assert (facts(root)["error.type"], root.status.status_code) == ("timeout", StatusCode.ERROR)
    (root,) = made(lambda t: t.inputs(lambda: record(asyncio.CancelledError())))
    assert (facts(root)["error.type"], root.status.status_code) == ("cancelled", StatusCode.UNSET)
