from dashboards import charts
from dashboards.report import DemoReport
from tests.unit.dashboards.sample import demo_report

REPORT = DemoReport.model_validate(demo_report())


def test_chart_says_in_words_what_it_shows():
    chart = charts.policy_scores(REPORT.router.policies)

    assert "learned 0.655 (0.615 to 0.695)" in chart.description


def test_chart_marks_the_champion_and_keeps_the_tables_order():
    spec = charts.policy_scores(REPORT.router.policies).picture.to_dict()

    (rows,) = spec["datasets"].values()
    assert {row["name"]: row["strong"] for row in rows} == {
        "cheapest": False,
        "learned": True,
        "static:local-md": False,
    }
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["cheapest", "learned", "static:local-md"]


def test_row_without_a_value_is_said_but_not_drawn():
    report = demo_report()
    report["retrieval"]["hit@10"] = {"value": None, "reason": "fewer than 10 documents"}
    retrieval = DemoReport.model_validate(report).retrieval

    chart = charts.hit_rates(retrieval)

    (rows,) = chart.picture.to_dict()["datasets"].values()
    assert [row["name"] for row in rows] == ["first 1", "first 5"]
    assert "first 10 undefined: fewer than 10 documents" in chart.description
