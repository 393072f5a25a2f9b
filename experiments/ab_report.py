"""Logs A/B tests in MLflow: the plan before the data is read, then the comparison with its verdicts and figure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.ab_test import Comparison, Plan
from experiments.tracking import Run, new_figure
from modelyard.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAN_TAG: Final = "modelyard.plan"


def log_plan(run: Run, plan: Plan) -> None:
    """Log a plan before its data is read.

    Raises:
        InvalidInput: The run has a plan already.
    """
    before = run.tags().get(PLAN_TAG)
    if before is not None:
        raise InvalidInput(
            f"The run {run.id} has a plan already ({before[:12]}…): a plan is written once, before the data is read."
        )
    run.set_tags({PLAN_TAG: plan.sha256})
    params = {name: ", ".join(value) if name == "challengers" else value for name, value in asdict(plan).items()}
    run.log_params(params)
    run.log_json(plan.to_json(), "plan.json")


def log_comparison(run: Run, comparison: Comparison, command: str) -> dict[str, Any]:
    """Log a comparison under the plan that the run began with, and return its report.

    Raises:
        InvalidInput: The comparison follows another plan, such as one with another margin, or the run has none.
    """
    before = run.tags().get(PLAN_TAG)
    if before != comparison.plan.sha256:
        written = f"began with the plan {before[:12]}…" if before else "began without a plan"
        raise InvalidInput(
            f"The run {run.id} {written}, but the comparison follows {comparison.plan.sha256[:12]}… "
            f"(margin {comparison.plan.margin:g}): a plan cannot change once the data was read."
        )
    report = comparison.to_json(command, run.id)
    run.log_metrics(_metrics(comparison))
    run.set_tags({f"outcome.{result.name}": result.outcome for result in comparison.results})
    run.log_json(report, "comparison.json")
    for result in comparison.results:
        run.log_json(comparison.verdict(result.name, run.id).to_json(), verdict_file(result.name))
    run.log_figure(draw(comparison), "differences.png")
    return report


def verdict_file(challenger: str) -> str:
    """Return the artifact that holds a challenger's verdict."""
    return f"verdicts/{''.join(c if c.isalnum() or c in '-_.' else '_' for c in challenger)}.json"


def draw(comparison: Comparison) -> Figure:
    """Draw the differences in score and in cost with their intervals."""
    results, plan = comparison.results, comparison.plan
    figure = new_figure(9.0, 1.6 + 0.5 * len(results))
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(results))
    for axes, scale, differences in (
        (left, 1.0, [r.score for r in results]),
        (right, 1000.0, [r.cost for r in results]),
    ):
        values = scale * np.array([d.value for d in differences])
        ends = scale * np.array([[d.value - d.low, d.high - d.value] for d in differences]).T
        axes.errorbar(values, rows, xerr=np.maximum(ends, 0.0), fmt="o", capsize=4, color="#1f4e79")
        axes.axvline(0.0, color="black", linewidth=0.8)
    left.axvline(-plan.margin, color="#b22222", linestyle="--", linewidth=0.8, label=f"−margin ({plan.margin:g})")
    left.legend(loc="best", fontsize="small")
    left.set_yticks(rows, [f"{r.name}\n{r.outcome}" for r in results])
    left.invert_yaxis()
    left.set_xlabel(f"{plan.metric}, difference to {plan.baseline}")
    right.set_xlabel(f"USD per 1000 prompts, difference to {plan.baseline}")
    return figure


def _metrics(comparison: Comparison) -> dict[str, float]:
    metrics: dict[str, float] = {"n": comparison.n}
    for name, (score, cost) in comparison.means.items():
        metrics |= {f"score.{name}": score, f"cost_usd.{name}": cost}
    for result in comparison.results:
        for kind, found in (("score", result.score), ("cost_usd", result.cost)):
            prefix = f"difference.{kind}.{result.name}"
            metrics |= {prefix: found.value, f"{prefix}.low": found.low, f"{prefix}.high": found.high}
    return metrics
