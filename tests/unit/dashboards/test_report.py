import json

import pytest

from dashboards.report import Estimate, read_report
from modelyard.errors import InvalidInput
from modelyard.settings import Settings
from tests.unit.dashboards.sample import demo_report, write_report


def test_no_demo_is_no_report(settings: Settings):
    assert read_report(settings.home) is None


def test_report_is_read_with_its_intervals(settings: Settings):
    write_report(settings, demo_report())

    report = read_report(settings.home)

    assert report is not None
    assert [policy.role for policy in report.router.policies] == ["baseline", "champion", "baseline"]
    assert report.router.policies[1].score == Estimate(value=0.655, ci95=(0.615, 0.695))
    assert report.retrieval.hit_rates[5].value == 0.823
    assert report.classifier.domain.macro_f1 == Estimate(value=0.812)


def test_undefined_estimate_keeps_its_reason(settings: Settings):
    report = demo_report()
    report["retrieval"]["hit@1"] = {"value": None, "reason": "no question has a relevant document"}
    write_report(settings, report)

    read = read_report(settings.home)

    assert read is not None
    assert read.retrieval.hit_at_1.value is None
    assert read.retrieval.hit_at_1.reason == "no question has a relevant document"


def test_report_of_another_schema_is_refused_by_name(settings: Settings):
    write_report(settings, demo_report() | {"schema": 2})

    with pytest.raises(InvalidInput, match=r"demo\.json cannot be read: schema: Input should be 1"):
        read_report(settings.home)


def test_report_with_a_missing_field_names_the_field(settings: Settings):
    report = demo_report()
    del report["retrieval"]["hit@5"]
    write_report(settings, report)

    with pytest.raises(InvalidInput, match=r"demo\.json cannot be read: retrieval\.hit@5: Field required"):
        read_report(settings.home)


def test_half_a_report_is_refused(settings: Settings):
    write_report(settings, demo_report())
    path = settings.home / "reports" / "demo.json"
    path.write_text(json.dumps(demo_report())[:100])

    with pytest.raises(InvalidInput, match=r"demo\.json cannot be read: the file as a whole: Invalid JSON"):
        read_report(settings.home)


def test_verdict_that_contradicts_its_figures_is_refused(settings: Settings):
    report = demo_report()
    report["router"]["verdict"]["outcome"] = "worse"
    write_report(settings, report)

    with pytest.raises(InvalidInput, match=r"router\.verdict: .*says 'worse', but its figures say 'better'"):
        read_report(settings.home)
