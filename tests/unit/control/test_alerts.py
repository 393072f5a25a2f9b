from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

import pytest

from modelyard.control.alert_rules import AlertRule, AlertRules, SavingRule
from modelyard.control.alerts import AlertWatch, alerts_of
from modelyard.errors import InvalidSetting
from modelyard.storage import Database, StorageError
from modelyard.storage.tables import Alert, Message, StoredSetting
from tests.unit.control.usage import NOW, store, usage

SPENDING = AlertRule(metric="cost_usd", above=1.0, window_s=86_400, per="project", severity="critical")
ERRORS = AlertRule(metric="error_rate", above=0.1, window_s=900, per="model", at_least=5)
NO_SAVINGS = SavingRule(enabled=False)


def watch(
    database: Database, *, at: datetime = NOW, savings: SavingRule = NO_SAVINGS, **rules: AlertRule
) -> AlertWatch:
    return AlertWatch(database, AlertRules(rules=rules, savings=savings), clock=lambda: at)


def test_a_crossed_line_is_one_alert_that_says_what_and_whose(database: Database):
    store(database, usage(cost_usd=1.5, project_id="shop"), usage(cost_usd=0.9, project_id="blog"))
    watch(database, spending=SPENDING).evaluate()

    (alert,) = alerts_of(database)
    assert (alert.kind, alert.subject, alert.severity) == ("spending", "shop", "critical")
    assert alert.message == "Cost of the project 'shop' over the last 1 d: $ 1.50, above the line of $ 1.00."
    assert (alert.value, alert.line) == (1.5, 1.0)
    assert (alert.created_at, alert.resolved_at) == (NOW, None)


def test_an_alert_is_brought_up_to_date_while_it_stands_and_resolved_when_it_is_past(database: Database):
    store(database, usage(cost_usd=1.5, project_id="shop"))
    watch(database, spending=SPENDING).evaluate()
    store(database, usage(cost_usd=0.5, project_id="shop"))
    watch(database, at=NOW + timedelta(minutes=5), spending=SPENDING).evaluate()
    (alert,) = alerts_of(database, open_only=True)
    assert (alert.value, alert.created_at) == (2.0, NOW)

    tomorrow = NOW + timedelta(days=1, minutes=5)
    assert watch(database, at=tomorrow, spending=SPENDING).evaluate() == ()
    assert alerts_of(database, open_only=True) == ()
    (alert,) = alerts_of(database)
    assert alert.resolved_at == tomorrow


def test_a_line_that_is_crossed_again_is_a_new_alert(sqlite: Database):
    store(sqlite, usage(cost_usd=1.5, project_id="shop"))
    for days in (0, 1.1):
        watch(sqlite, at=NOW + timedelta(days=days), spending=SPENDING).evaluate()
    later = NOW + timedelta(days=2)
    store(sqlite, usage(cost_usd=3.0, project_id="shop", created_at=later - timedelta(minutes=1)))
    watch(sqlite, at=later, spending=SPENDING).evaluate()
    assert [alert.resolved_at is None for alert in alerts_of(sqlite)] == [True, False]


def test_an_alert_of_a_rule_that_is_gone_or_switched_off_is_resolved(sqlite: Database):
    store(sqlite, usage(cost_usd=1.5, project_id="shop"))
    watch(sqlite, spending=SPENDING).evaluate()
    watch(sqlite, spending=SPENDING.model_copy(update={"enabled": False})).evaluate()
    assert alerts_of(sqlite, open_only=True) == ()


def test_rates_of_few_requests_say_nothing(sqlite: Database):
    store(sqlite, *(usage(status="failed") for _ in range(4)))
    assert watch(sqlite, errors=ERRORS).evaluate() == ()
    store(sqlite, usage(status="failed"))
    (found,) = watch(sqlite, errors=ERRORS).evaluate()
    assert found.message == "Error rate of the model 'md' over the last 15 min: 100.0%, above the line of 10.0%."
    assert found.details["requests"] == 5


def test_a_value_on_the_line_is_not_above_it(sqlite: Database):
    store(sqlite, usage(cost_usd=1.0, project_id="shop"))
    assert watch(sqlite, spending=SPENDING).evaluate() == ()


def test_latency_over_everything_is_one_alert(sqlite: Database):
    store(sqlite, *(usage(latency_ms=1234.0) for _ in range(20)))
    rule = AlertRule(metric="p95_latency_ms", above=1000)
    (found,) = watch(sqlite, slow=rule).evaluate()
    assert found.subject == "all"
    assert found.message == ("95th percentile of latency over the last 1 h: 1,234 ms, above the line of 1,000 ms.")


def forms_traffic(database: Database, *, equal: int, better: int) -> None:
    """Store requests on `lg` of which some were predicted equal on `md`, at a tenth of the price."""
    for number in range(equal + better):
        quality = 0.90 if number < equal else 0.5
        candidates = [
            {"model": "md", "quality": quality, "cost_usd": 0.001},
            {"model": "lg", "quality": 0.91, "cost_usd": 0.01},
        ]
        message = Message(
            id=f"msg-{number}",
            created_at=NOW - timedelta(hours=1),
            composite="auto",
            model="lg",
            domain="forms",
            complexity="simple",
            status="complete",
            model_metadata={"route": {"candidates": candidates}},
            rag_sources=[],
            processing_metadata=[],
        )
        row = usage(60, message_id=message.id, model="lg", domain="forms", cost_usd=10.0)
        with database.write() as session:
            session.add_all((message, row))


def test_a_saving_is_named_with_its_share_and_its_money(database: Database):
    forms_traffic(database, equal=5, better=3)
    (found,) = watch(database, savings=SavingRule(margin=0.02)).evaluate()
    assert (found.kind, found.severity) == ("saving", "info")
    assert found.message == "62% of forms traffic on lg is predicted equal on md: about $ 45.00 a day."
    assert found.value == pytest.approx(45.0)
    assert found.details["alternative"] == "md"
    (alert,) = alerts_of(database)
    assert alert.message == found.message


@pytest.mark.parametrize(
    "rule", [SavingRule(least_usd_a_day=50), SavingRule(least_share=0.7), SavingRule(margin=0.001), NO_SAVINGS]
)
def test_small_savings_are_not_worth_a_message(sqlite: Database, rule: SavingRule):
    forms_traffic(sqlite, equal=5, better=3)
    assert watch(sqlite, savings=rule).evaluate() == ()


def test_several_processes_raise_one_alert_together(database: Database):
    store(database, usage(cost_usd=1.5, project_id="shop"))
    watches = [watch(database, spending=SPENDING) for _ in range(8)]
    threads = [threading.Thread(target=one.evaluate) for one in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alerts_of(database)) == 1


def test_a_database_that_fails_is_told(sqlite: Database):
    Alert.__table__.drop(sqlite.engine)  # type: ignore[attr-defined]
    with pytest.raises(StorageError):
        watch(sqlite, spending=SPENDING).evaluate()


def test_the_newest_alerts_come_first_and_no_more_than_asked(sqlite: Database):
    moments = [NOW + timedelta(minutes=n) for n in range(5)]
    with sqlite.write() as session:
        session.add_all(
            Alert(
                kind=f"k{n}", severity="info", subject="s", message="m", value=1.0, line=0.0, created_at=at, details={}
            )
            for n, at in enumerate(moments)
        )
    assert [alert.kind for alert in alerts_of(sqlite, limit=2)] == ["k4", "k3"]


def test_the_log_says_once_that_an_alert_is_raised_and_once_that_it_is_over(
    sqlite: Database, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "modelyard.control")
    store(sqlite, usage(cost_usd=1.5, project_id="shop"))
    for minutes in (0, 1, 2):
        watch(sqlite, at=NOW + timedelta(minutes=minutes), spending=SPENDING).evaluate()
    (line,) = caplog.records
    assert line.levelname == "ERROR"  # the rule is critical
    assert line.getMessage().startswith("Alert spending: Cost of the project 'shop' over the last 1 d: $ 1.50")
    for days in (2, 3):
        watch(sqlite, at=NOW + timedelta(days=days), spending=SPENDING).evaluate()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "'shop' is over" in caplog.records[1].getMessage()


def test_alerts_that_stand_are_counted_by_their_rule(sqlite: Database):
    store(sqlite, *(usage(cost_usd=1.5, project_id=name) for name in ("shop", "blog")))
    watching = watch(sqlite, spending=SPENDING, errors=ERRORS)
    assert watching.open_alerts == {"spending": 0, "errors": 0, "saving": 0}
    watching.evaluate()
    assert watching.open_alerts == {"spending": 2, "errors": 0, "saving": 0}


def test_rules_that_were_set_count_from_the_next_evaluation_on_in_every_process(database: Database):
    store(database, usage(cost_usd=1.5, project_id="shop"))
    here, there = watch(database, spending=SPENDING), watch(database, spending=SPENDING)
    assert len(there.evaluate()) == 1
    higher = SPENDING.model_copy(update={"above": 2.0})
    assert here.set_rules(AlertRules(rules={"spending": higher}), by="kim").rules == {"spending": higher}
    assert there.evaluate() == ()
    assert watch(database).refresh().rules == {"spending": higher}  # also after a restart
    here.set_rules(None, by="kim")
    assert len(there.evaluate()) == 1


def test_stored_rules_that_are_not_valid_are_said_and_leave_the_rules(sqlite: Database):
    watching = watch(sqlite, spending=SPENDING)
    with sqlite.write() as session:
        session.add(StoredSetting(name="alert_rules", value={"rules": {"a": {"metric": "mood"}}}, updated_by="newer"))
    with pytest.raises(InvalidSetting, match=r"The stored alert rules: rules\.a\.metric is invalid"):
        watching.evaluate()
    assert watching.rules.rules == {"spending": SPENDING}
