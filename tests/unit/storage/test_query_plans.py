"""At a million rows of usage, no question about a window of time reads a whole table, as the databases themselves EXPLAIN."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from modelyard.control.alert_metrics import measure
from modelyard.storage import Database, analytics
from modelyard.storage.analytics import Only, Window
from modelyard.storage.retention import delete_expired, delete_project, delete_user

pytestmark = pytest.mark.slow

USAGES, MESSAGES = 1_000_000, 50_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=100)
SINCE, UNTIL = BEGIN + timedelta(days=70), BEGIN + timedelta(days=71)
DAY, WEEK = Window(SINCE, UNTIL), Window(SINCE - timedelta(days=6), UNTIL)
TABLES = ("model_usage", "message", "feedback")

# Rows i = 1 … n, evenly over the hundred days: 8 models, 20 projects, 100 keys, 12 domains.
SQLITE_ROWS = "WITH RECURSIVE rows(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM rows WHERE i < {n}) "
SQLITE_MOMENT = "strftime('%Y-%m-%d %H:%M:%f000', 1767225600 + i * 8640000.0 / {n}, 'unixepoch')"
POSTGRESQL_ROWS = "WITH rows(i) AS (SELECT generate_series(1::bigint, {n})) "
POSTGRESQL_MOMENT = "to_timestamp(1767225600 + i * 8640000.0 / {n})"
USAGE = """
INSERT INTO model_usage (id, created_at, message_id, project_id, api_key_id, kind, status, composite, model, deployment, domain,
    complexity, prompt_tokens, cached_tokens, completion_tokens, cost_usd, estimated, latency_ms, first_token_ms, attempts, fallback,
    cache_hit)
{rows} SELECT '01' || substr('0000000000' || i, -10 + length('0000000000' || i) + 1), {moment}, 'ans-' || (i * 7919 % 1000003),
    'project-' || (i * 31 % 20), 'key-' || (i * 17 % 100), 'chat', CASE i % 50 WHEN 0 THEN 'failed' ELSE 'complete' END,
    'auto', 'model-' || (i * 13 % 8), 'model-a/1', 'domain-' || (i * 5 % 12), 'simple', 100 + i % 900, 0, 20 + i % 300, 0.0001 * (i % 70),
    false, i * 37 % 4000, i * 37 % 400, 1, i % 40 = 0, i % 30 = 0 FROM rows
"""
MESSAGE = """
INSERT INTO message (id, created_at, project_id, user_id, composite, prompt, answer, model, domain, complexity, status, model_metadata,
    rag_sources, processing_metadata)
{rows} SELECT 'ans-' || i, {moment}, 'project-' || (i % 20), CASE WHEN i % 2 = 0 THEN 'user-' || (i % 5000) END, 'auto', 'Why?', 'So.',
    'model-' || (i * 13 % 8), 'domain-' || (i * 5 % 12), 'simple', 'complete', '{{"route": {{"candidates": []}}}}', '[]', '[]' FROM rows
"""


def _fill(database: Database) -> None:
    sqlite = database.engine.dialect.name == "sqlite"
    rows, moment = (SQLITE_ROWS, SQLITE_MOMENT) if sqlite else (POSTGRESQL_ROWS, POSTGRESQL_MOMENT)
    with database.write() as session:
        for insert, n in ((MESSAGE, MESSAGES), (USAGE, USAGES)):
            statement = insert.format(rows=rows.format(n=n), moment=moment.format(n=n))
            session.connection().exec_driver_sql(statement if sqlite else statement.replace("%", "%%"))
        session.execute(text("ANALYZE"))


def _alerts(database: Database) -> None:
    for metric in ("cost_usd", "p95_latency_ms", "error_rate"):
        measure(database, metric, "model", since=SINCE, until=UNTIL)


QUESTIONS: dict[str, Callable[[Database], Any]] = {
    "usage by hour": lambda database: analytics.usage(database, DAY, bucket="hour"),
    "usage by model": lambda database: analytics.usage(database, WEEK, by="model", bucket="day"),
    "usage of a key": lambda database: analytics.usage(database, WEEK, bucket="day", where=Only(key="key-7")),
    "usage of a project": lambda database: analytics.usage(database, WEEK, by="key", where=Only(project="project-3")),
    "usage of a model": lambda database: analytics.usage(database, WEEK, where=Only(model="model-2")),
    "usage of a domain": lambda database: analytics.usage(database, WEEK, where=Only(domain="domain-2")),
    "latency by model": lambda database: analytics.latencies(database, DAY, by="model"),
    "latency by domain and day": lambda database: analytics.latencies(database, WEEK, by="domain", bucket="day"),
    "routing": lambda database: analytics.routing_shares(database, WEEK, bucket="day"),
    "savings": lambda database: analytics.saving_opportunities(database, SINCE, until=UNTIL),
    "retrieval": lambda database: analytics.retrieval_counts(database, SINCE, UNTIL),
    "cost since": lambda database: analytics.cost_per_model_per_day(database, BEGIN + timedelta(days=99)),
    "latency since": lambda database: analytics.latency(database, BEGIN + timedelta(days=99)),
    "routing since": lambda database: analytics.routing_share(database, BEGIN + timedelta(days=99)),
    "alerts": _alerts,
    "expired": lambda database: delete_expired(
        database, {"model_usage": 50, "message": 50}, at=BEGIN + timedelta(days=50, minutes=2)
    ),
    "a user": lambda database: delete_user(database, "user-42"),
    "nobody's project": lambda database: delete_project(database, "project-99"),
}


def test_no_question_about_a_window_reads_a_whole_table(database: Database) -> None:
    _fill(database)  # takes seconds: one test asks everything
    found = {name: _whole_reads(database, ask) for name, ask in QUESTIONS.items()}
    assert {name: steps for name, steps in found.items() if steps} == {}
    assert _whole_reads(database, lambda database: analytics.usage(database, Window())), "EXPLAIN shows what reads all"


def _whole_reads(database: Database, ask: Callable[[Database], Any]) -> list[str]:
    with _explained(database) as plans:
        ask(database)
    assert plans, "nothing was asked of the large tables"
    return [f"{step} in {statement}" for statement, steps in plans for step in steps]


@contextmanager
def _explained(database: Database) -> Iterator[list[tuple[str, list[str]]]]:
    """Collect every statement on the large tables with the steps of its plan that read one of them from end to end."""
    plans: list[tuple[str, list[str]]] = []
    steps = _sqlite_steps if database.engine.dialect.name == "sqlite" else _postgresql_steps

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith(("SELECT", "DELETE", "UPDATE")) and any(table in statement for table in TABLES):
            plans.append((statement, list(steps(cursor.connection, statement, parameters))))

    event.listen(database.engine, "before_cursor_execute", explain)
    event.listen(database._writer, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(database.engine, "before_cursor_execute", explain)
        event.remove(database._writer, "before_cursor_execute", explain)


def _sqlite_steps(connection: Any, statement: str, parameters: Any) -> Iterator[str]:
    for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
        if step.startswith("SCAN") and any(f" {table}" in f"{step} " for table in TABLES[:2]):
            yield step


def _postgresql_steps(connection: Any, statement: str, parameters: Any) -> Iterator[str]:
    with connection.cursor() as cursor:
        (plan,) = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
    pending = [(json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]]
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        scans = node["Node Type"].endswith("Scan") and node.get("Relation Name", node.get("Index Name")) is not None
        large = node.get("Relation Name") in TABLES[:2]
        if scans and large and node["Node Type"] != "Bitmap Heap Scan" and "Index Cond" not in node:
            yield f"{node['Node Type']} on {node['Relation Name']}"
