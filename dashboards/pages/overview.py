"""Overview: how good the champion is, how well retrieval finds, what it costs."""

from __future__ import annotations

import streamlit as st

from dashboards import charts, queries, tables
from dashboards.report import DemoReport, read_report
from modelyard.errors import ModelyardError
from modelyard.settings import Settings, current

FRESH_S = 10.0  # how long what was read is shown before it is read again
COMMAND = "make demo"


def show() -> None:
    """Draw the page."""
    st.title("Overview", anchor=False)
    settings = current()
    try:
        report = _report(settings)
    except ModelyardError as error:
        st.error(str(error))
        report = None
    else:
        if report is None:
            st.info(f"No results yet in `{settings.home}`. `{COMMAND}` runs the experiment cycle and fills this page.")
    if report is not None:
        st.caption(f"From `python -m pipelines {report.command}`, {report.created_at:%d %B %Y, %H:%M %Z}.")
        _performance(report)
        _retrieval(report)
    _cost(report, settings)


@st.cache_data(ttl=FRESH_S, show_spinner=False)
def _report(settings: Settings) -> DemoReport | None:
    return read_report(settings.home)


@st.cache_data(ttl=FRESH_S, show_spinner=False)
def _served(settings: Settings) -> tuple[queries.ServedCost, ...]:
    return queries.served_costs(settings)


def _performance(report: DemoReport) -> None:
    st.header("Model performance", anchor=False)
    st.subheader("Router: champion against baselines", anchor=False)
    st.text(report.router.verdict.sentence)
    st.markdown(f"Every policy on the same {report.router.n:,} test prompts:")
    rows = tables.ranked(report.router.policies)
    st.table(tables.policies(rows))
    left, right = st.columns(2)
    with left:
        _draw(charts.policy_scores(rows))
    with right:
        _draw(charts.policy_costs(rows))
    st.subheader("Task classifier, out of fold", anchor=False)
    st.table(tables.classifier(report.classifier))


def _retrieval(report: DemoReport) -> None:
    st.header("Retrieval", anchor=False)
    st.markdown(
        f"How often a document that answers the question is among the first found, over {report.retrieval.n:,} questions."
    )
    left, right = st.columns(2)
    with left:
        st.table(tables.retrieval(report.retrieval))
    with right:
        _draw(charts.hit_rates(report.retrieval))


def _cost(report: DemoReport | None, settings: Settings) -> None:
    st.header("Cost", anchor=False)
    st.subheader("Of the experiment", anchor=False)
    if report is None or not report.cost.by_model:
        st.markdown(f"Nothing yet: `{COMMAND}` runs one.")
    else:
        st.markdown(
            "What each base model cost to answer the eval set; the A/B test compares policies on these answers."
        )
        st.table(tables.run_costs(report.cost.by_model))
    st.subheader("Of serving", anchor=False)
    _served_cost(settings)


def _served_cost(settings: Settings) -> None:
    try:
        rows = _served(settings)
    except ModelyardError as error:
        st.error(str(error))
        return
    if rows:
        st.table(tables.served_costs(rows))
    else:
        st.markdown("Nothing served yet: `make serve` answers requests, and `modelyard ask` a single one.")


def _draw(chart: charts.Chart) -> None:
    st.altair_chart(chart.picture, alt=chart.description)
