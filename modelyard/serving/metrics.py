"""What Prometheus reads at `/metrics`. Labels are names of the catalogue, never what a caller wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from modelyard.errors import AccessDenied, LimitExceeded, Unauthenticated, UpstreamError
from modelyard.types import Answer, Usage

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts requests, tokens, money and time, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry, "namespace": "modelyard"}
        self._requests = Counter(
            "requests", "Requests by what was asked for and how they ended.", ["composite", "status"], **kept
        )
        self._seconds = Histogram(
            "request_seconds", "Time to the whole answer.", ["composite"], buckets=SECONDS, **kept
        )
        self._answers = Counter("answers", "Answers by the base model that gave them.", ["composite", "model"], **kept)
        self._tokens = Counter("tokens", "Tokens by base model and direction.", ["model", "direction"], **kept)
        self._cost = Counter("cost_usd", "Cost of answers in USD by base model.", ["model"], **kept)
        self._fallbacks = Counter(
            "fallbacks", "Answers by another deployment than the one called first.", ["composite"], **kept
        )
        self._refused = Counter(
            "refused",
            "Requests turned away: for want of a key, a scope, or room under a limit.",
            ["status", "reason"],
            **kept,
        )
        self._children: dict[tuple[str, str], _Children] = {}

    def answered(self, composite: str, answer: Answer, ms: float, *, cache_hit: bool = False) -> None:
        """Count an answer."""
        self.counted(composite, answer.model, answer.usage, ms, cache_hit=cache_hit, fallback=answer.fell_back)

    def counted(
        self, composite: str, model: str, usage: Usage, ms: float, *, cache_hit: bool = False, fallback: bool = False
    ) -> None:
        """Count a request that was answered, whatever it asked for; a base model that was asked for itself stands in both places."""
        children = self._of(composite, model)
        children.ok.inc()
        children.seconds.observe(ms / 1000)
        children.answers.inc()
        if not cache_hit:
            children.prompt.inc(usage.prompt_tokens)
            children.completion.inc(usage.completion_tokens)
            children.cost.inc(usage.cost_usd)
            if fallback:
                self._fallbacks.labels(composite).inc()

    def failed(self, composite: str, error: BaseException) -> None:
        """Count a request that ended without an answer, by the kind of what ended it."""
        if isinstance(error, UpstreamError | LimitExceeded):
            status = f"{'upstream' if isinstance(error, UpstreamError) else 'limit'}_{error.kind}"
        else:
            status = "error" if isinstance(error, Exception) else "cancelled"
        self._requests.labels(composite, status).inc()

    def refused(self, error: BaseException) -> None:
        """Count a request that was turned away by its status and the reason; other errors are not counted here."""
        if isinstance(error, LimitExceeded):
            self._refused.labels("503" if error.kind == "capacity" else "429", error.kind).inc()
        elif isinstance(error, AccessDenied):
            unknown = isinstance(error, Unauthenticated)
            self._refused.labels(*(("401", "unauthenticated") if unknown else ("403", "forbidden"))).inc()

    def watch(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Ask for these values, too, each time the metrics are read."""
        self.registry.register(_Asked(read))

    def page(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _of(self, composite: str, model: str) -> _Children:
        found = self._children.get((composite, model))
        if found is None:  # looking labels up takes longer than counting
            found = self._children[composite, model] = _Children(
                self._requests.labels(composite, "ok"),
                self._seconds.labels(composite),
                self._answers.labels(composite, model),
                self._tokens.labels(model, "prompt"),
                self._tokens.labels(model, "completion"),
                self._cost.labels(model),
            )
        return found


@dataclass(frozen=True, slots=True)
class _Children:
    """The counters of one composite and base model."""

    ok: Counter
    seconds: Histogram
    answers: Counter
    prompt: Counter
    completion: Counter
    cost: Counter


class _Asked(Collector):
    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from self._read()

    def describe(self) -> Iterable[Metric]:
        return ()
