"""Charts with intervals. Each comes with the sentence that says the same to someone who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from dashboards import tables
from dashboards.report import Estimate, Policy, Retrieval

CHAMPION, OTHERS = "#1f5fa8", "#6b7280"  # both at least 4.5:1 on white
ROW_PX, AXIS_PX = 32, 60  # Streamlit fits the axis into the height


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture and the sentence that stands for it."""

    picture: alt.LayerChart | alt.FacetChart
    description: str


def policy_scores(rows: Sequence[Policy]) -> Chart:
    """Mean score by policy."""
    return _dots(
        {row.name: row.score for row in rows}, [row.name for row in rows if row.role == "champion"], "Score", (0.0, 1.0)
    )


def policy_costs(rows: Sequence[Policy]) -> Chart:
    """Cost by policy."""
    costs = {row.name: row.cost_usd_per_1k for row in rows}
    return _dots(costs, [row.name for row in rows if row.role == "champion"], "USD per 1,000 prompts", None)


def hit_rates(scores: Retrieval) -> Chart:
    """Hit rate by number of documents looked at."""
    rows = {f"first {k}": estimate for k, estimate in scores.hit_rates.items()}
    return _dots(rows, list(rows), "Hit rate", (0.0, 1.0))


def _dots(rows: Mapping[str, Estimate], strong: Sequence[str], title: str, domain: tuple[float, float] | None) -> Chart:
    """One dot a row with its 95 % interval as a line; rows without a value are left out and named in the sentence."""
    data = pd.DataFrame(
        [
            {"name": name, "value": row.value, "low": low, "high": high, "strong": name in strong}
            for name, row in rows.items()
            if row.value is not None
            for low, high in [row.ci95 or (row.value, row.value)]
        ],
        columns=["name", "value", "low", "high", "strong"],
    )
    scale = alt.Scale(zero=True) if domain is None else alt.Scale(domain=list(domain))
    color = alt.condition("datum.strong", alt.value(CHAMPION), alt.value(OTHERS))
    base = alt.Chart(data).encode(
        y=alt.Y("name:N", sort=list(rows), title=None, axis=alt.Axis(labelLimit=240, labelOverlap=False)),
        tooltip=[
            alt.Tooltip("name:N", title="Row"),
            alt.Tooltip("value:Q", title=title, format=".4f"),
            alt.Tooltip("low:Q", title="95 % from", format=".4f"),
            alt.Tooltip("high:Q", title="95 % to", format=".4f"),
        ],
    )
    axis = alt.Axis(tickCount=5)
    line = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q", color=color
    )
    dot = base.mark_circle(size=110, opacity=1).encode(x=alt.X("value:Q", title=title, scale=scale), color=color)
    picture = alt.layer(line, dot, height=ROW_PX * max(len(data), 1) + AXIS_PX)
    return Chart(picture, _sentence(rows, title))


def _sentence(rows: Mapping[str, Estimate], title: str) -> str:
    digits = 4 if "USD" in title else 3
    said = (
        f"{name} {tables.number(row, digits=digits)} ({tables.interval(row, digits=digits)})"
        for name, row in rows.items()
    )
    return f"{title} with 95 % interval: {', '.join(said)}."
