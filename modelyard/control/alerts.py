"""Alerts: rows that a background job opens while a line is crossed, and resolves when it no longer is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from modelyard.control.alert_metrics import Measure, measure
from modelyard.control.alert_rules import AlertRule, AlertRules, Metric, SavingRule
from modelyard.control.stored_rules import drop_rules, store_rules, stored_rules
from modelyard.storage.analytics import SavingOpportunity, saving_opportunities
from modelyard.storage.database import Database
from modelyard.storage.tables import Alert, now

ALERT_LOCK: Final = 0x6D79616C  # PostgreSQL advisory lock: "myal"; several processes evaluate, one at a time
SAVING: Final = "saving"
LONGEST_SUBJECT: Final = 200
LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}

log = logging.getLogger("modelyard.control")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an alert says; `kind` is the rule's name or `saving`, `subject` what it is about."""

    kind: str
    subject: str
    severity: str
    message: str
    value: float
    line: float
    details: dict[str, Any] = field(default_factory=dict[str, Any])


class AlertWatch:
    """Evaluates the rules against the database; run `evaluate` every minute or so in a background job.

    Each alert is a row, a line in the log when it is raised and one when it is over, and counts in `open_alerts`.

    Args:
        database: Where the usage is, and the alerts go.
        rules: Those that count as long as none are stored.
        clock: This moment in UTC.
    """

    def __init__(self, database: Database, rules: AlertRules, clock: Callable[[], datetime] = now) -> None:
        self._database, self._default, self._clock = database, rules, clock
        self._rules = rules
        self._open: Mapping[str, int] = {}

    @property
    def rules(self) -> AlertRules:
        """The rules that count, as they were last read."""
        return self._rules

    @property
    def open_alerts(self) -> Mapping[str, int]:
        """How many alerts stand by the rule that they are of, as of the last evaluation; rules without any have 0."""
        return {**dict.fromkeys((*self._rules.rules, SAVING), 0), **self._open}

    def refresh(self) -> AlertRules:
        """Read the rules that operators set, and return those that count now.

        Raises:
            InvalidSetting: What is stored is not valid; the rules stay.
            StorageError: The database failed; the rules stay.
        """
        self._rules = stored_rules(self._database) or self._default
        return self._rules

    def set_rules(self, rules: AlertRules | None, *, by: str) -> AlertRules:
        """Store rules in the place of those that there were, or None to return to the file's; the next evaluation goes by them.

        Raises:
            StorageError: The database failed; nothing was changed.
        """
        if rules is None:
            drop_rules(self._database)
        else:
            store_rules(self._database, rules, by=by)
        return self.refresh()

    def evaluate(self) -> tuple[Finding, ...]:
        """Evaluate every rule, open, update and resolve alerts, and return what was found.

        Raises:
            InvalidSetting: Stored rules are not valid.
            StorageError: The database failed; no alert was changed.
        """
        self.refresh()
        moment = self._clock()
        findings = tuple(self._findings(moment))
        with self._database.write() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ALERT_LOCK})
            news = _settle(session, findings, moment)
        for level, line in news:
            log.log(level, "%s", line)
        self._open = Counter(finding.kind for finding in findings)
        return findings

    def _findings(self, moment: datetime) -> Iterable[Finding]:
        for name, rule in self.rules.rules.items():
            if rule.enabled:
                since = moment - timedelta(seconds=rule.window_s)
                measures = measure(self._database, rule.metric, rule.per, since=since, until=moment)
                yield from (_crossed(name, rule, found) for found in measures if _crosses(rule, found))
        if self.rules.savings.enabled:
            yield from self._savings(self.rules.savings, moment)

    def _savings(self, rule: SavingRule, moment: datetime) -> Iterable[Finding]:
        since = moment - timedelta(seconds=rule.window_s)
        for found in saving_opportunities(self._database, since, until=moment, margin=rule.margin):
            if found.usd_a_day >= rule.least_usd_a_day and found.share >= rule.least_share:
                yield _saving(rule, found)


def alerts_of(database: Database, *, open_only: bool = False, limit: int = 100) -> tuple[Alert, ...]:
    """Return the alerts, newest first.

    Raises:
        StorageError: The database failed.
    """
    query = select(Alert).order_by(Alert.created_at.desc(), Alert.id.desc()).limit(limit)
    if open_only:
        query = query.where(Alert.resolved_at.is_(None))
    with database.read() as session:
        found = tuple(session.scalars(query))
        session.expunge_all()
    return found


def _settle(session: Session, findings: Iterable[Finding], moment: datetime) -> list[tuple[int, str]]:
    """Bring the open alerts in line with what was found, one for each kind and subject; return what is new of them, for the log."""
    news: list[tuple[int, str]] = []
    still_open = {
        (row.kind, row.subject): row for row in session.scalars(select(Alert).where(Alert.resolved_at.is_(None)))
    }
    for finding in findings:
        row = still_open.pop((finding.kind, finding.subject), None)
        if row is None:
            row = Alert(kind=finding.kind, subject=finding.subject, created_at=moment)
            session.add(row)
            news.append((LEVELS.get(finding.severity, logging.WARNING), f"Alert {finding.kind}: {finding.message}"))
        row.severity, row.message = finding.severity, finding.message
        row.value, row.line, row.details = finding.value, finding.line, finding.details
    for row in still_open.values():
        row.resolved_at = moment
        news.append((logging.INFO, f"Alert {row.kind} about {row.subject!r} is over; it was: {row.message}"))
    return news


def _crosses(rule: AlertRule, found: Measure) -> bool:
    enough = rule.metric in {"cost_usd", "requests"} or found.requests >= rule.at_least
    return enough and found.value > rule.above


def _crossed(name: str, rule: AlertRule, found: Measure) -> Finding:
    subject = found.subject if rule.per != "all" else "all"
    whose = "" if rule.per == "all" else f" of the {rule.per} {found.subject!r}"
    value, line = _said(rule.metric, found.value), _said(rule.metric, rule.above)
    message = (
        f"{METRIC_NAMES[rule.metric]}{whose} over the last {_span(rule.window_s)}: {value}, above the line of {line}."
    )
    details = {"metric": rule.metric, "per": rule.per, "requests": found.requests, "window_s": rule.window_s}
    return Finding(name, subject[:LONGEST_SUBJECT], rule.severity, message, found.value, rule.above, details)


def _saving(rule: SavingRule, found: SavingOpportunity) -> Finding:
    message = (
        f"{found.share:.0%} of {found.domain} traffic on {found.model} is predicted equal on {found.alternative}: "
        f"about $ {found.usd_a_day:.2f} a day."
    )
    subject = f"{found.domain}: {found.model} → {found.alternative}"[:LONGEST_SUBJECT]
    details = {
        "domain": found.domain,
        "model": found.model,
        "alternative": found.alternative,
        "share": found.share,
        "margin": rule.margin,
        "window_s": rule.window_s,
    }
    return Finding(SAVING, subject, rule.severity, message, found.usd_a_day, rule.least_usd_a_day, details)


METRIC_NAMES: Final[dict[Metric, str]] = {
    "cost_usd": "Cost",
    "error_rate": "Error rate",
    "p95_latency_ms": "95th percentile of latency",
    "fallback_rate": "Fallback rate",
    "requests": "Requests",
}


def _said(metric: Metric, value: float) -> str:
    match metric:
        case "cost_usd":
            return f"$ {value:,.2f}" if value >= 0.01 or value == 0 else f"$ {value:.6f}"
        case "p95_latency_ms":
            return f"{value:,.0f} ms"
        case "requests":
            return f"{value:,.0f}"
        case _:
            return f"{value:.1%}"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
