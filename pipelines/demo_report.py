"""What the demo compares, answers and reports."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from eval_sets import load_documents, load_tasks
from experiments.ab_report import log_comparison, log_plan
from experiments.ab_test import Arm, Comparison, Plan, compare
from experiments.offline import replay
from experiments.policies import policy_named, serving_classifier
from experiments.report import show
from experiments.retrieval_eval import evaluate
from experiments.splits import rows_in
from experiments.statistics import bootstrap_means
from experiments.tracking import start
from modelyard.catalog import load_catalog, realised_costs
from modelyard.cli.text import explanation
from modelyard.errors import CorruptModel
from modelyard.outcomes import OutcomeMatrix, read_outcomes
from modelyard.registry.champions import read_current
from modelyard.registry.verdict import Verdict
from modelyard.retrieval import current_index
from modelyard.serving.loading import load
from modelyard.serving.recorder import Recorder
from modelyard.settings import Settings
from modelyard.types import Answer, Message
from pipelines.ab_test import file_hash
from pipelines.train_classifier import WEB_TASKS

WEB_DOCS = WEB_TASKS.parent / "web_docs"
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy (`role` champion, challenger or baseline): mean score, and cost in USD per 1,000 prompts, on n test prompts."""

    name: str
    role: str
    score: dict[str, Any]
    cost_usd_per_1k: dict[str, Any]
    n: int
    verdict: dict[str, Any]
    margin: float


def ab_test(outcomes: Path, settings: Settings, *, margin: float, seed: int) -> tuple[Replays, Verdict]:
    """Compare the newest router with what serves and with every baseline, on the test part of the outcomes.

    Where no router serves, the challenger is held against the static policy of `auto`: what would serve without it.
    """
    catalog = load_catalog(settings.catalog)
    auto = catalog.composite("auto")
    serving = read_current("router", settings)
    baseline = "champion" if serving else f"static:{auto.fallback}"
    others = [f"static:{name}" for name in auto.candidates] + ["cheapest", "rules"]
    names = ("challenger", *(name for name in others if name != baseline))
    plan = Plan("router", baseline, names, margin, file_hash(outcomes), rows="test", seed=seed)
    with start(settings, "ab-test").run(f"router challenger vs {baseline}") as run:
        log_plan(run, plan)
        table = read_outcomes(outcomes)
        matrix = OutcomeMatrix.of(table, auto.candidates, str(outcomes)).complete()
        matrix = matrix.take(rows_in(matrix.prompt_ids, "test"))
        models = [catalog.model(name) for name in auto.candidates]
        costs = realised_costs(matrix, {model.name: model.price for model in models}, catalog.models)
        classifier = serving_classifier(settings)
        arms: list[Arm] = []
        for name in (baseline, *names):
            named = policy_named(name, settings)
            found = replay(named.policy, classifier, matrix, models, costs)
            arms.append(Arm(name, found.scores, found.costs, named.version))
        comparison = compare(arms, plan=plan, domains=matrix.domains)
        log_comparison(run, comparison, "ab-test")
        return Replays(comparison, tuple(arms)), comparison.verdict("challenger", run.id)


@dataclass(frozen=True, slots=True)
class Replays:
    """A comparison and the arms behind it."""

    comparison: Comparison
    arms: tuple[Arm, ...]


def standings(replays: Replays, verdict: Verdict, settings: Settings, *, seed: int) -> tuple[Standing, ...]:
    """Return every policy with its interval, what serves now first."""
    serving = read_current("router", settings)
    rows = [
        Standing(
            *_name_and_role(arm, serving.version if serving else None),
            _estimate(arm.scores, seed),
            _estimate(1000 * arm.costs, seed),
            len(arm.scores),
            verdict.to_json(),
            verdict.margin,
        )
        for arm in replays.arms
    ]
    order = {"champion": 0, "challenger": 1, "baseline": 2}
    return tuple(sorted(rows, key=lambda row: order[row.role]))


def retrieval_scores(settings: Settings) -> dict[str, Any]:
    """Return the hit rates of the current index on the eval set's questions."""
    index = current_index(settings)
    if index is None:
        raise CorruptModel(f"The index that was just built is not in {settings.indexes}.")
    tasks = load_tasks(WEB_TASKS)
    report = evaluate(index, {row.id: row.prompt for row in tasks.rows}, tasks.qrels())
    found = report.to_json()
    scores = {name: found[name] for name in ("hit@1", "hit@5", "hit@10", "ndcg@10")}
    documents = len(load_documents(WEB_DOCS))
    print(f"{report.n} questions over {documents} documents: " + ", ".join(f"{k} {show(v)}" for k, v in scores.items()))
    return {**scores, "n": report.n, "query_ms": found["query_ms"]}


def demo_answer(prompt: str, settings: Settings) -> tuple[str, Answer]:
    """Load `auto` as an application would, answer, store and explain."""
    message = Message.of(prompt)
    began = time.perf_counter()
    composite = load("auto", settings)
    answer = composite.ask(prompt)
    taken = (time.perf_counter() - began) * 1000
    recorder = Recorder(settings.database)
    try:
        recorder.record(message, answer, composite=composite.name, latency_ms=taken)
    finally:
        recorder.close()
    print(f"> {prompt}\n\n{answer.text}\n\n{explanation(answer.metadata)}")
    return prompt, answer


def report_of(
    classifier: Mapping[str, Mapping[str, Any]],
    found: Sequence[Standing],
    retrieval: Mapping[str, Any],
    answered: tuple[str, Answer],
    outcomes: Path,
    router_version: str,
) -> dict[str, Any]:
    """Return the report that the dashboard reads."""
    prompt, answer = answered
    policies = [
        {"name": row.name, "role": row.role, "score": row.score, "cost_usd_per_1k": row.cost_usd_per_1k}
        for row in found
    ]
    verdict, margin = found[0].verdict, found[0].margin
    heads = {
        name: {key: head[key] for key in ("macro_f1", "accuracy", "ece", "brier_skill")}
        for name, head in classifier.items()
    }
    baselines = {
        name: {kind: scores for kind, scores in head["baselines"].items() if "macro_f1" in scores}
        for name, head in classifier.items()
    }
    return {
        "schema": 1,
        "command": "demo",
        "created_at": datetime.now(UTC).isoformat(),
        "router": {
            "policies": policies,
            "verdict": verdict,
            "margin": margin,
            "n": found[0].n,
            "trained": router_version,
        },
        "classifier": {**heads, "baselines": baselines},
        "retrieval": dict(retrieval),
        "cost": {"by_model": _costs(outcomes)},
        "answer": {"prompt": prompt, "text": answer.text, **answer.metadata},
    }


def farewell(found: Sequence[Standing], settings: Settings, report: Path, seconds: float) -> str:
    """Return the closing table and where to look next."""
    lines = [f"\n== Champion against baselines, {found[0].n} test prompts, 95 % intervals"]
    lines.append(f"{'policy':<32}{'':<12}{'score':>24}{'USD per 1,000 prompts':>30}")
    for row in found:
        lines.append(f"{row.name:<32}{row.role:<12}{show(row.score):>24}{show(row.cost_usd_per_1k, 4):>30}")
    lines += [
        f"\nDone in {seconds:.0f} s. Look next at",
        f"  make dashboards   the same as pages (report: {report})",
        f"  make mlflow       every run, model and verdict ({settings.tracking})",
        "  make serve        http://127.0.0.1:8000/v1, for any OpenAI client",
        '  .venv/bin/modelyard explain "your own prompt"',
        "  python -m pipelines history",
    ]
    return "\n".join(lines)


def _name_and_role(arm: Arm, serving: str | None) -> tuple[str, str]:
    """Return what an arm is now that the gate has spoken; in the comparison it had the name of what it was before."""
    if arm.version is None:
        return arm.name, "baseline"
    if arm.version == serving:
        return f"router {arm.version}", "champion"
    if arm.name == "challenger":
        return f"router {arm.version}", "challenger"
    return f"router {arm.version} (champion before)", "baseline"


def _estimate(values: Any, seed: int) -> dict[str, Any]:
    means = bootstrap_means(np.asarray(values, dtype=np.float64), seed=seed, resamples=RESAMPLES)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": float(np.mean(values)), "ci95": [float(low), float(high)]}


def _costs(outcomes: Path) -> list[dict[str, Any]]:
    table = read_outcomes(outcomes)
    models, costs = np.array(table.column("model").to_pylist()), table.column("cost_usd").to_numpy()
    return [
        {"model": name, "requests": int((models == name).sum()), "cost_usd": float(np.nansum(costs[models == name]))}
        for name in sorted(set(models.tolist()))
    ]
