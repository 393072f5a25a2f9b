"""What the parts of a server know by themselves, as Prometheus asks for it at `/metrics`: read anew each time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from modelyard.control.caches import CacheStats
from modelyard.control.key_checks import KeyStats
from modelyard.control.pools import Pool
from modelyard.serving.reports import Reports
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from modelyard.upstream import DeploymentStates
from modelyard.upstream.batching import BatcherStats
from modelyard.upstream.state import BOUNDS_S

if TYPE_CHECKING:
    from modelyard.serving.parts import ServerParts

BREAKERS: Final = {"closed": 0, "half_open": 1, "open": 2}


def watched(parts: ServerParts) -> Iterator[Metric]:
    """Yield what the parts of a server count."""
    yield from deployment_metrics(parts.served.states)
    yield from probe_metrics(parts.served.states)
    yield from cache_metrics(parts.caches.stats())
    yield from alert_metrics(parts.alerts.open_alerts)
    yield from key_metrics(parts.keyring.stats())
    yield from batch_metrics({"embeddings": parts.embedders.stats(), "moderations": parts.moderators.stats()})
    yield from book_metrics(parts.spool, parts.writer)
    yield from report_metrics(parts.reports)


def deployment_metrics(states: DeploymentStates) -> Iterator[Metric]:
    """Yield how calls of each deployment went."""
    breaker = GaugeMetricFamily("modelyard_breaker_state", "0 closed, 1 half open, 2 open.", labels=["deployment"])
    flying = GaugeMetricFamily("modelyard_in_flight", "Calls under way.", labels=["deployment"])
    calls = CounterMetricFamily("modelyard_calls", "Calls by how they ended.", labels=["deployment", "outcome"])
    faults = CounterMetricFamily(
        "modelyard_faults", "Faults by kind, of calls and probes.", labels=["deployment", "kind"]
    )
    seconds = HistogramMetricFamily("modelyard_call_seconds", "Time to a call's whole answer.", labels=["deployment"])
    for state in states:
        name, facts = state.name, state.snapshot()
        breaker.add_metric([name], BREAKERS[facts["breaker"]])
        flying.add_metric([name], facts["in_flight"])
        for outcome, count in facts["calls"].items():
            calls.add_metric([name, outcome], count)
        for kind, count in facts["faults"].items():
            faults.add_metric([name, kind], count)
        bounds = (*(f"{bound:g}" for bound in BOUNDS_S), "+Inf")
        counts = accumulate(tuple(state.latencies.counts))
        seconds.add_metric([name], list(zip(bounds, counts, strict=True)), state.latencies.sum_s)
    yield from (breaker, flying, calls, faults, seconds)


def probe_metrics(states: DeploymentStates) -> Iterator[Metric]:
    """Yield how the last probe of each deployment ended, where one was made."""
    found = GaugeMetricFamily("modelyard_probe_up", "Whether the last probe was answered.", labels=["deployment"])
    age = GaugeMetricFamily("modelyard_probe_age_seconds", "Time since the last probe.", labels=["deployment"])
    took = GaugeMetricFamily("modelyard_probe_seconds", "How long the last answer took.", labels=["deployment"])
    now = datetime.now(UTC)
    for state in states:
        probe = state.probe
        if probe is None:
            continue
        found.add_metric([state.name], float(probe["ok"]))
        age.add_metric([state.name], max((now - datetime.fromisoformat(probe["at"])).total_seconds(), 0.0))
        if probe["ok"]:
            took.add_metric([state.name], probe["ms"] / 1000)
    yield from (found, age, took)


def cache_metrics(stats: Iterable[CacheStats]) -> Iterator[Metric]:
    """Yield what each cache did."""
    looked = CounterMetricFamily("modelyard_cache_lookups", "Look-ups by what was found.", labels=["cache", "found"])
    held = GaugeMetricFamily("modelyard_cache_bytes", "Bytes held, estimated.", labels=["cache"])
    for cache in stats:
        looked.add_metric([cache.name, "hit"], cache.hits)
        looked.add_metric([cache.name, "miss"], cache.misses)
        held.add_metric([cache.name], cache.bytes)
    yield from (looked, held)


def key_metrics(stats: KeyStats) -> Iterator[Metric]:
    """Yield what became of API keys."""
    yield _counter("modelyard_keys_refused", "Requests with a key that is not valid.", stats.refused)
    yield _counter("modelyard_keys_shed", "Unknown keys that were not looked at: too many came.", stats.shed)
    yield GaugeMetricFamily("modelyard_keys_waiting", "Unknown keys that are looked at or wait.", stats.waiting)


def batch_metrics(batchers: dict[str, BatcherStats]) -> Iterator[Metric]:
    """Yield how well micro-batching gathers: inputs by calls."""
    counts = {
        name: CounterMetricFamily(f"modelyard_batch_{name}", f"{name.capitalize()} of micro-batching.", labels=["kind"])
        for name in ("requests", "inputs", "calls", "refused")
    }
    waiting = GaugeMetricFamily("modelyard_batch_waiting", "Inputs that wait or are answered.", labels=["kind"])
    for kind, stats in batchers.items():
        for name, family in counts.items():
            family.add_metric([kind], getattr(stats, name))
        waiting.add_metric([kind], stats.waiting)
    yield from (*counts.values(), waiting)


def book_metrics(spool: Spool, writer: Writer) -> Iterator[Metric]:
    """Yield what is on its way to the database, and what never will be there."""
    yield GaugeMetricFamily("modelyard_spool_waiting_bytes", "Usage that is not in the database yet.", writer.lag_bytes)
    yield _counter("modelyard_spool_written", "Requests whose rows were stored.", writer.written)
    yield _counter("modelyard_spool_orphans", "Calls that killed processes had under way.", writer.orphans)
    yield _counter("modelyard_spool_refused", "Rows that the database refused, set aside.", writer.refused)
    yield _counter("modelyard_spool_damaged", "Damaged lines, set aside.", writer.damaged)
    yield _counter("modelyard_spool_lost", "Entries lost while the folder could not be written to.", spool.dropped)


def report_metrics(reports: Iterable[Reports]) -> Iterator[Metric]:
    """Yield how many spans and traces were dropped because too many waited."""
    dropped = CounterMetricFamily("modelyard_reports_dropped", "Records dropped: too many waited.", labels=["report"])
    for report in reports:
        dropped.add_metric([report.name], report.dropped)
    yield dropped


def pool_metrics(pools: Iterable[Pool]) -> Iterator[Metric]:
    """Yield how much waits for threads, and what was refused for want of them."""
    under_way = GaugeMetricFamily("modelyard_pool_under_way", "Work that is done or waits.", labels=["pool"])
    refused = CounterMetricFamily("modelyard_pool_refused", "Work that was refused: too much waited.", labels=["pool"])
    for pool in pools:
        under_way.add_metric([pool.name], pool.under_way)
        refused.add_metric([pool.name], pool.refused)
    yield from (under_way, refused)


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(name, documentation, value)


def alert_metrics(standing: Mapping[str, int]) -> Iterator[Metric]:
    """Yield how many alerts stand, by the rule that they are of."""
    alerts = GaugeMetricFamily("modelyard_alerts", "Alerts that stand.", labels=["rule"])
    for rule, count in standing.items():
        alerts.add_metric([rule], count)
    yield alerts
