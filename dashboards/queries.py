"""What the pages ask the application database; plain functions, so that notebooks and tests can ask the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from modelyard.settings import Settings
from modelyard.storage import Database
from modelyard.storage.analytics import DailyCost, cost_per_model_per_day, latency


@dataclass(frozen=True, slots=True)
class ServedCost:
    """What one base model did for answered prompts; latency in milliseconds, None where no latency was stored."""

    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    p50_ms: float | None
    p95_ms: float | None


def served_costs(settings: Settings) -> tuple[ServedCost, ...]:
    """Return what serving cost by model, the dearest first; empty where nothing was served yet.

    Raises:
        StorageError: The database failed.
    """
    if settings.database_url is None and not (settings.home / "modelyard.db").exists():
        return ()  # looking must not make a database
    database = Database(settings.database)
    try:
        if database.revision() is None:
            return ()
        times = {row.model: row for row in latency(database)}
        days = cost_per_model_per_day(database)
    finally:
        database.close()
    by_model: defaultdict[str, list[DailyCost]] = defaultdict(list)
    for day in days:
        by_model[day.model].append(day)
    rows = [
        ServedCost(
            model=model,
            requests=sum(row.requests for row in rows),
            prompt_tokens=sum(row.prompt_tokens for row in rows),
            completion_tokens=sum(row.completion_tokens for row in rows),
            cost_usd=sum(row.cost_usd for row in rows),
            p50_ms=times[model].p50_ms if model in times else None,
            p95_ms=times[model].p95_ms if model in times else None,
        )
        for model, rows in by_model.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.cost_usd, -row.requests, row.model)))
