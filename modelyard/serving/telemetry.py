"""OpenTelemetry spans of answered and failed requests, by the conventions for generative AI; see `spans`.

A request's spans are made after its end, by a thread of their own: the request pays for one entry in a queue, and for nothing where no
exporter is configured. OpenTelemetry's own variables configure it:

    OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_TRACES_EXPORTER=otlp|console     switch it on
    OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none                                                         switch it off
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_EXPORTER_OTLP_HEADERS …  mean what they always mean

The provider is our own and never the process's global one, which belongs to the application that embeds us.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from modelyard import __version__
from modelyard.errors import InvalidSetting, MissingExtra
from modelyard.serving.input_spans import outline_inputs
from modelyard.serving.reports import CLOSE_S, EndedInputs, Reports, Request
from modelyard.serving.spans import Outline, outline
from modelyard.settings import Settings

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

CAPACITY: Final = 2048  # requests that wait for their spans
SERVICE: Final = "modelyard"


class Telemetry(Reports):
    """Makes spans of requests that have ended.

    Args:
        exporters: Where spans go; nowhere without one.
        log_prompts: Whether spans show prompts and answers.
    """

    takes_inputs = True

    def __init__(self, exporters: Sequence[SpanExporter] = (), *, log_prompts: bool = False) -> None:
        self._maker = _Maker(exporters, log_prompts) if exporters else None
        super().__init__("telemetry", self._maker and self._maker.make, CAPACITY)

    @classmethod
    def from_environment(cls, settings: Settings, environ: Mapping[str, str] | None = None) -> Telemetry:
        """Return what OpenTelemetry's variables ask for.

        Raises:
            MissingExtra: OTLP is asked for, and its exporter is not installed.
            InvalidSetting: A variable asks for what there is not.
        """
        return cls(_exporters(os.environ if environ is None else environ), log_prompts=settings.log_prompts)

    def close(self) -> None:
        """Export what waits, for at most some seconds; blocks."""
        super().close()
        if self._maker is not None:
            self._maker.close(CLOSE_S)


class _Maker:
    """Makes spans with a provider of its own."""

    def __init__(self, exporters: Sequence[SpanExporter], log_prompts: bool) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind

        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        name = {} if named else {"service.name": SERVICE}
        self._provider = TracerProvider(
            resource=Resource.create({**name, "service.version": __version__}), shutdown_on_exit=False
        )
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("modelyard", __version__)
        self._kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
        self._log_prompts = log_prompts

    def make(self, request: Request | EndedInputs) -> None:
        """Make and end the spans of one request."""
        from opentelemetry import trace

        contexts = [_incoming(request)]
        made: list[trace.Span] = []
        chat = isinstance(request, Request)
        outlines = outline(request, texts=self._log_prompts) if chat else outline_inputs(request)
        for planned in outlines:
            context = contexts[0] if planned.parent is None else contexts[planned.parent + 1]
            span = self._tracer.start_span(
                planned.name,
                context,
                self._kinds[planned.kind],
                planned.attributes,
                start_time=planned.start_ns,
                record_exception=False,
                set_status_on_exception=False,
            )
            made.append(span)
            contexts.append(trace.set_span_in_context(span))
        for span, planned in zip(reversed(made), reversed(outlines), strict=True):
            _finish(span, planned)

    def close(self, timeout_s: float) -> None:
        """Export what waits; an exporter whose collector is gone is not waited for longer than that."""
        closing = threading.Thread(target=self._provider.shutdown, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(timeout_s)


def _finish(span: trace.Span, planned: Outline) -> None:
    from opentelemetry.trace import StatusCode

    if planned.failed:
        span.set_status(StatusCode.ERROR)
    span.end(planned.end_ns)


def _incoming(request: Request | EndedInputs) -> Context:
    """Return the caller's span as context; an empty one where the header is missing or is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if request.parent is None:
        return Context()
    return TraceContextTextMapPropagator().extract(request.parent, Context())


def _exporters(environ: Mapping[str, str]) -> list[SpanExporter]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not named:
        endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        named = "otlp" if any(environ.get(name, "").strip() for name in endpoints) else "none"
    return [exporter for name in named.split(",") if (exporter := _exporter(name.strip(), environ)) is not None]


def _exporter(name: str, environ: Mapping[str, str]) -> SpanExporter | None:
    match name:
        case "none" | "":
            return None
        case "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter(out=sys.stdout)
        case "otlp":
            return _otlp(environ)
        case _:
            raise InvalidSetting(f"OTEL_TRACES_EXPORTER must be otlp, console or none, but got {name!r}.")


def _otlp(environ: Mapping[str, str]) -> SpanExporter:
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(variable, "").strip()
        if protocol and protocol != "http/protobuf":
            raise InvalidSetting(
                f"{variable} must be http/protobuf, which is what Modelyard speaks, but got {protocol!r}."
            )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
    except ImportError:
        raise MissingExtra(
            "OpenTelemetry's variables ask for OTLP, but its exporter is not installed: pip install 'modelyard[otlp]'."
        ) from None
    return OTLPSpanExporter()
