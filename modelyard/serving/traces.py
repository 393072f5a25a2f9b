"""MLflow traces of a share of all requests, for people who look at answers one by one; see `spans` for what a trace holds.

They are written by a thread of their own, which also loads MLflow, through a bounded queue: a request pays for one entry in it, and a store
that is slow or gone costs traces, which are counted, and never a request. Without `settings.log_prompts` no prompt, answer or quotation of
them is in a trace; with it, keys and e-mail addresses are replaced.

Complete traces go through MLflow's tracing client to the store of the settings. `MlflowClient.start_trace` would go through the process's
default store and tracer, which are the application's.
"""

from __future__ import annotations

import base64
import json
import random
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from modelyard.errors import RegistryError
from modelyard.registry.mlflow_store import be_brief, connect, experiment_id, unreachable
from modelyard.serving.redact import redact
from modelyard.serving.reports import Failure, Reports, Request
from modelyard.serving.spans import GENERATE, Outline, outline
from modelyard.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Span, TraceInfo
    from mlflow.tracing.client import TracingClient

EXPERIMENT: Final = "modelyard-serving"
CAPACITY: Final = 256  # traces that wait
PREVIEW: Final = 1000  # characters of prompt and answer that MLflow's list shows
TYPES: Final = {"server": "CHAIN", "client": "CHAT_MODEL", "internal": "TASK"}
STEP_TYPES: Final = {"retrieve": "RETRIEVER", GENERATE: "CHAIN"}


class Traces(Reports):
    """Writes traces of a sampled share of requests.

    Args:
        settings: The share, whether texts are shown, and where MLflow is.
        draw: Returns a number in 0..1 for each request; those below the share are traced.
    """

    def __init__(self, settings: Settings, draw: Callable[[], float] = random.random) -> None:
        share = settings.trace_share
        self.writer = _Writer(settings) if share > 0.0 else None
        super().__init__("traces", self.writer and self.writer.write, CAPACITY, lambda: draw() < share)


class _Writer:
    """Writes one trace after the other; the store is opened by the first, or by the next one where that failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: tuple[TracingClient, str] | None = None

    def write(self, request: Request) -> None:
        """Write a request's trace.

        Raises:
            RegistryError: The store does not take it.
        """
        try:
            client, experiment = self._opened or self._open()
            trace_id = secrets.randbits(128) or 1
            info = self._info(request, trace_id, experiment)
            planned = outline(request, texts=self._settings.log_prompts)
            client.start_trace(info)
            client.log_spans(experiment, _spans(planned, trace_id, info.trace_id))
        except RegistryError:
            raise
        except Exception as error:  # MLflow and what is below it fail in many ways
            raise unreachable(error) from error

    def _open(self) -> tuple[TracingClient, str]:
        from mlflow.tracing.client import TracingClient

        settings = self._settings
        be_brief(settings)
        experiment = experiment_id(connect(settings), EXPERIMENT, settings)
        self._opened = TracingClient(settings.tracking), experiment
        return self._opened

    def _info(self, request: Request, trace_id: int, experiment: str) -> TraceInfo:
        from mlflow.entities import TraceInfo, TraceLocation, TraceState

        end, texts = request.end, self._settings.log_prompts
        failed = isinstance(end, Failure)
        tags = {"mlflow.traceName": request.composite, "modelyard.status": end.kind if failed else "complete"}
        if request.request_id is not None:
            tags["modelyard.request_id"] = request.request_id
        metadata = {"mlflow.trace_schema.version": "3"}
        if not failed:
            tags |= {"modelyard.model": end.model, "modelyard.domain": end.task.domain}
            metadata["mlflow.trace.tokenUsage"] = json.dumps(_tokens(request))
        return TraceInfo(
            trace_id=f"tr-{trace_id:032x}",
            trace_location=TraceLocation.from_experiment_id(experiment),
            request_time=round(request.ended_ns / 1e6 - request.ms),
            execution_duration=round(request.ms),
            state=TraceState.ERROR if failed else TraceState.OK,
            client_request_id=request.message.id,
            request_preview=redact(request.message.prompt, PREVIEW) if texts else None,
            response_preview=redact(end.text, PREVIEW) if texts and not failed else None,
            trace_metadata=metadata,
            tags=tags,
        )


def _tokens(request: Request) -> dict[str, int]:
    usage = None if request.cache_hit or isinstance(request.end, Failure) else request.end.usage
    prompt, completion = (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    return {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}


def _spans(planned: list[Outline], trace_id: int, named: str) -> list[Span]:
    from mlflow.entities import Span

    ids = [_bytes(secrets.randbits(64) or 1, 8) for _ in planned]
    return [
        Span.from_dict(
            {
                "trace_id": _bytes(trace_id, 16),
                "span_id": own,
                "parent_span_id": "" if span.parent is None else ids[span.parent],
                "name": span.name,
                "start_time_unix_nano": span.start_ns,
                "end_time_unix_nano": span.end_ns,
                "status": {"code": "STATUS_CODE_ERROR" if span.failed else "STATUS_CODE_OK", "message": ""},
                "events": [],
                "attributes": _attributes(span, named),
            }
        )
        for own, span in zip(ids, planned, strict=True)
    ]


def _attributes(span: Outline, trace: str) -> dict[str, str]:
    """Return attributes as MLflow keeps them, each as JSON, with its own names for type, inputs and outputs."""
    found: dict[str, Any] = dict(span.attributes)
    found["mlflow.traceRequestId"] = trace
    found["mlflow.spanType"] = STEP_TYPES.get(span.name, TYPES[span.kind])
    for theirs, ours in (
        ("mlflow.spanInputs", "gen_ai.input.messages"),
        ("mlflow.spanOutputs", "gen_ai.output.messages"),
    ):
        if ours in found:
            found[theirs] = {"messages": json.loads(found.pop(ours))}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in found.items()}


def _bytes(number: int, length: int) -> str:
    return base64.b64encode(number.to_bytes(length, "big")).decode()
