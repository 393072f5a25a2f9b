"""Routes for flags, alerts and caches."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Query

from modelyard.control.alert_rules import AlertRules
from modelyard.control.alerts import alerts_of
from modelyard.control.flags import Flag, FlagRule
from modelyard.errors import InvalidInput
from modelyard.serving.admin.context import Context
from modelyard.serving.admin.faults import NotFound
from modelyard.serving.admin.records import AlertRecord, CacheRecord, FlagRecord, NewFlag
from modelyard.serving.admin.security import Admin, who
from modelyard.serving.admin.text import is_storable

router: Final = APIRouter()


@router.get("/flags", tags=["flags"])
def list_flags(context: Context) -> list[FlagRecord]:
    """Return the rollout flags, as the database has them now."""
    context.flags.refresh()
    return [_flag(flag) for flag in context.flags.all()]


@router.put("/flags/{name:path}", tags=["flags"])
def put_flag(name: str, asked: NewFlag, context: Context, principal: Admin) -> FlagRecord:
    """Make a flag, or replace it; other processes follow within seconds."""
    rules = tuple(FlagRule(rule.attribute, tuple(rule.values), rule.on) for rule in asked.rules)
    flag = Flag(name, asked.description, asked.enabled, asked.share, rules)
    context.flags.put(flag, by=who(principal))
    return _flag(flag)


@router.delete("/flags/{name:path}", tags=["flags"], status_code=204)
def remove_flag(name: str, context: Context) -> None:
    """Remove a flag; it is off from now on."""
    try:
        context.flags.remove(name)
    except InvalidInput as error:
        raise NotFound(str(error)) from None


@router.get("/alerts", tags=["alerts"])
def list_alerts(
    context: Context, *, open_only: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[AlertRecord]:
    """Return the alerts, newest first."""
    found = alerts_of(context.database, open_only=open_only, limit=limit)
    return [AlertRecord.model_validate(alert) for alert in found]


@router.post("/alerts/evaluate", tags=["alerts"])
def evaluate_alerts(context: Context) -> list[AlertRecord]:
    """Evaluate the rules now, without waiting for the background job, and return the alerts that are open."""
    context.alerts.evaluate()
    return [AlertRecord.model_validate(alert) for alert in alerts_of(context.database, open_only=True)]


@router.get("/alerts/rules", tags=["alerts"])
def list_rules(context: Context) -> AlertRules:
    """Return the rules that alerts are raised by."""
    return context.alerts.refresh()


@router.put("/alerts/rules", tags=["alerts"])
def put_rules(asked: AlertRules, context: Context, principal: Admin) -> AlertRules:
    """Set all rules, in the place of the file's and of those that were set before; the next evaluation goes by them, in every process."""
    if not all(map(is_storable, asked.rules)):
        raise InvalidInput("The name of a rule must not hold NUL characters or half surrogate pairs.")
    return context.alerts.set_rules(asked, by=who(principal))


@router.delete("/alerts/rules", tags=["alerts"])
def reset_rules(context: Context, principal: Admin) -> AlertRules:
    """Return to the rules of the file, or the shipped ones, and return them."""
    return context.alerts.set_rules(None, by=who(principal))


@router.get("/caches", tags=["caches"])
def list_caches(context: Context) -> list[CacheRecord]:
    """Return what the caches of this process did since it started."""
    return [CacheRecord.model_validate(stats.to_json()) for stats in context.caches.stats()]


@router.delete("/caches", tags=["caches"], status_code=204)
def clear_caches(context: Context) -> None:
    """Forget everything that this process has cached."""
    context.caches.clear()


def _flag(flag: Flag) -> FlagRecord:
    return FlagRecord.model_validate(asdict(flag))
