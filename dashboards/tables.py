"""Tables as a reviewer reads them: one column a fact, numbers as text, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dashboards.queries import ServedCost
from dashboards.report import Classifier, Estimate, ModelCost, Policy, Retrieval

ABSENT = "–"


def policies(rows: Sequence[Policy]) -> pd.DataFrame:
    """Champion and baselines, the champion first and then the best score first."""
    return _frame(
        "Policy",
        {
            row.name: {
                "Role": row.role,
                "Score": number(row.score),
                "Score, 95 % interval": interval(row.score),
                "USD per 1,000 prompts": number(row.cost_usd_per_1k, digits=4),
                "Cost, 95 % interval": interval(row.cost_usd_per_1k, digits=4),
            }
            for row in ranked(rows)
        },
    )


def ranked(rows: Sequence[Policy]) -> list[Policy]:
    """Return the champion first, then the others from the best score to the worst; undefined scores come last."""
    return sorted(rows, key=lambda row: (row.role != "champion", row.score.value is None, -(row.score.value or 0.0)))


def classifier(scores: Classifier) -> pd.DataFrame:
    """One row a label: the classifier's own scores, then the macro-F1 of each baseline that was compared."""
    rows: dict[str, dict[str, str]] = {}
    for label, own in (("domain", scores.domain), ("complexity", scores.complexity)):
        rows[label] = {
            "Macro-F1": number(own.macro_f1),
            "Accuracy": number(own.accuracy),
            "Calibration error": number(own.ece),
        }
        for baseline, other in scores.baselines.get(label, {}).items():
            rows[label][f"Macro-F1 of {baseline.replace('_', ' ')}"] = number(other.macro_f1)
    return _frame("Label", rows)


def retrieval(scores: Retrieval) -> pd.DataFrame:
    """Hit rates at 1, 5 and 10."""
    return _frame(
        "Among the first",
        {
            str(k): {"Hit rate": number(estimate), "95 % interval": interval(estimate)}
            for k, estimate in scores.hit_rates.items()
        },
    )


def run_costs(rows: Sequence[ModelCost]) -> pd.DataFrame:
    """What each model cost in the experiment."""
    return _frame(
        "Model",
        {row.model: {"Prompts": f"{row.requests:,}", "USD": money(row.cost_usd)} for row in rows},
    )


def served_costs(rows: Sequence[ServedCost]) -> pd.DataFrame:
    """What each model cost while serving."""
    return _frame(
        "Model",
        {
            row.model: {
                "Requests": f"{row.requests:,}",
                "Prompt tokens": f"{row.prompt_tokens:,}",
                "Answer tokens": f"{row.completion_tokens:,}",
                "USD": money(row.cost_usd),
                "Median ms": _ms(row.p50_ms),
                "95th percentile ms": _ms(row.p95_ms),
            }
            for row in rows
        },
    )


def number(estimate: Estimate, *, digits: int = 3) -> str:
    """Return the value with `digits` decimals, or why there is none."""
    if estimate.value is None:
        return f"undefined: {estimate.reason}" if estimate.reason else ABSENT
    return f"{estimate.value:.{digits}f}"


def interval(estimate: Estimate, *, digits: int = 3) -> str:
    """Return the interval as `low to high`."""
    if estimate.ci95 is None:
        return ABSENT
    low, high = estimate.ci95
    return f"{low:.{digits}f} to {high:.{digits}f}"


def money(usd: float) -> str:
    """Return USD with enough decimals to tell a small sum from nothing."""
    return "0" if usd == 0 else f"{usd:,.2f}" if usd >= 1 else f"{usd:.6f}"


def _ms(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def _frame(index: str, rows: dict[str, dict[str, str]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").fillna(ABSENT).rename_axis(index)
