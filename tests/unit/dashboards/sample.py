"""A demo report and served answers, as the pages find them."""

from __future__ import annotations

import json
from typing import Any

from modelyard.registry.verdict import Difference, Verdict
from modelyard.settings import Settings
from modelyard.storage import Database, record_answer
from modelyard.types import Answer, Candidate, Message, Route, Task, Usage, Versions

VERDICT = Verdict(
    component="router",
    challenger="learned",
    challenger_version="2",
    against="static:local-md",
    against_version=None,
    metric="score",
    score=Difference(0.057, 0.021, 0.093),
    cost=Difference(-0.0000188, -0.00002, -0.00001),
    margin=0.02,
    n=112,
    data="9cf4dc2c03ce",
    run_id="run-1",
    outcome="better",
)


def estimate(value: float, spread: float = 0.04) -> dict[str, Any]:
    return {"value": value, "ci95": [round(value - spread, 6), round(value + spread, 6)]}


def policy(name: str, role: str, score: float, cost: float) -> dict[str, Any]:
    return {"name": name, "role": role, "score": estimate(score), "cost_usd_per_1k": estimate(cost, cost / 10)}


def demo_report() -> dict[str, Any]:
    return {
        "schema": 1,
        "command": "demo",
        "created_at": "2026-11-22T20:15:00+00:00",
        "router": {
            "policies": [
                policy("cheapest", "baseline", 0.412, 0.01),
                policy("learned", "champion", 0.655, 0.0312),
                policy("static:local-md", "baseline", 0.598, 0.05),
            ],
            "verdict": VERDICT.to_json(),
            "margin": VERDICT.margin,
            "n": VERDICT.n,
        },
        "classifier": {
            "domain": {"macro_f1": 0.812, "accuracy": 0.83, "ece": 0.031},
            "complexity": {"macro_f1": 0.701, "accuracy": 0.72, "ece": 0.044},
            "baselines": {
                "domain": {"majority": {"macro_f1": 0.021}, "length_only": {"macro_f1": 0.093}},
                "complexity": {"majority": {"macro_f1": 0.166}, "length_only": {"macro_f1": 0.377}},
            },
        },
        "retrieval": {"hit@1": estimate(0.571), "hit@5": estimate(0.823), "hit@10": estimate(0.9), "n": 204},
        "cost": {
            "by_model": [
                {"model": "local-sm", "requests": 240, "cost_usd": 0.0024},
                {"model": "local-md", "requests": 120, "cost_usd": 0.0061},
            ]
        },
        "answer": {"prompt": "How do I centre a div?", "text": "Use flexbox."},
    }


def write_report(settings: Settings, report: dict[str, Any]) -> None:
    folder = settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo.json").write_text(json.dumps(report), encoding="utf-8")


def serve_answers(settings: Settings, *calls: tuple[str, float, float]) -> None:
    """Store one answer per (model, USD, ms)."""
    database = Database(settings.database)
    database.migrate()
    for number, (model, usd, ms) in enumerate(calls):
        answer = Answer(
            id=f"answer-{number}",
            text="Use flexbox.",
            task=Task("css", "simple", {"css": 1.0}, {"simple": 1.0}, 6, "rules"),
            route=Route(model, (Candidate(model, None, usd),), "static", ("the only one",)),
            passages=(),
            usage=Usage(100, 20, usd),
            steps=(),
            versions=Versions("auto", "rules", "static"),
        )
        record_answer(database, Message.of("How do I centre a div?"), answer, composite="auto", latency_ms=ms)
    database.close()
