"""Traffic on a dearer model for which a cheaper one was predicted to be as good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Double,
    Select,
    String,
    TableValuedAlias,
    Text,
    case,
    cast,
    column,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy.orm import Session

from modelyard.errors import InvalidInput
from modelyard.storage.analytics.window import ANSWERED, Window
from modelyard.storage.database import Database
from modelyard.storage.tables import Message, ModelUsage, now

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)  # a message and its usage are written together: at most this far apart


@dataclass(frozen=True, slots=True)
class SavingOpportunity:
    """What moving a part of a domain's traffic to a cheaper model is predicted to save.

    Attributes:
        domain: The domain.
        model: The model that answered.
        alternative: The cheaper model; of several, the one that saves most.
        requests: Requests in that domain which `model` answered.
        share: The share of them (0..1) for which the alternative was predicted at most the margin below.
        usd_a_day: What those would have cost less, in USD a day.
    """

    domain: str
    model: str
    alternative: str
    requests: int
    share: float
    usd_a_day: float


def saving_opportunities(
    database: Database, since: datetime, *, until: datetime | None = None, margin: float = 0.02
) -> tuple[SavingOpportunity, ...]:
    """Look for traffic that a cheaper model was predicted to answer as well, the largest saving first; one entry for a domain and model.

    The predictions are those that routing weighed (`route.candidates` in the message's `model_metadata`): only answers whose message is
    still stored count. A request's saving is its true cost times the predicted saving, 1 - alternative / model. A window longer than
    there is usage for counts as long as there is, at least a day.

    Args:
        database: Where usage and messages are.
        since: Begin of the window.
        until: End of the window; now unless given.
        margin: Predicted scores (0..1) at most this far below the answering model's count as equal.

    Raises:
        InvalidInput: The margin is negative, or the window no window.
        StorageError: The database failed.
    """
    if not margin >= 0:
        raise InvalidInput(f"A margin of predicted scores must not be negative, but got {margin!r}.")
    window = Window(since, until or now())
    with database.read() as session:
        totals, first = _totals(session, window)
        if first is None or window.until is None:
            return ()
        days = max(window.until - max(first, since), DAY) / DAY
        found = session.execute(_savings(session.get_bind().dialect.name, window, margin)).all()
    best: dict[tuple[str, str], SavingOpportunity] = {}
    for domain, model, alternative, count, saved in found:
        total = totals[domain, model]
        opportunity = SavingOpportunity(domain, model, alternative, total, count / total, saved / days)
        known = best.get((domain, model))
        if known is None or (known.usd_a_day, known.alternative) < (opportunity.usd_a_day, alternative):
            best[domain, model] = opportunity
    return tuple(sorted(best.values(), key=lambda row: (-row.usd_a_day, row.domain, row.model)))


def _totals(session: Session, window: Window) -> tuple[dict[tuple[str, str], int], datetime | None]:
    """Return the answered requests by domain and model, and when the first of them was."""
    query = (
        select(ModelUsage.domain, ModelUsage.model, func.count(), func.min(ModelUsage.created_at))
        .where(*_traffic(window))
        .group_by(ModelUsage.domain, ModelUsage.model)
    )
    rows = session.execute(query).all()
    return {(str(row[0]), row[1]): row[2] for row in rows}, min((row[3] for row in rows), default=None)


def _traffic(window: Window) -> tuple[Any, ...]:
    answered = (ANSWERED, ModelUsage.kind == "chat", ModelUsage.cache_hit.is_(False), ModelUsage.domain.is_not(None))
    return (*window.conditions(ModelUsage.created_at), *answered)


def _savings(dialect: str, window: Window, margin: float) -> Select[str, str, str, int, float]:
    around = Window(*(moment and moment + shift for moment, shift in ((window.since, -HOUR), (window.until, HOUR))))
    own, other = _candidates(dialect, "own").c.value, _candidates(dialect, "other").c.value
    own_cost, cost = own["cost_usd"].as_float(), other["cost_usd"].as_float()
    return (
        select(
            type_coerce(ModelUsage.domain, String()),  # never null in this traffic
            ModelUsage.model,
            other["model"].as_string().label("alternative"),
            func.count(),
            func.sum(ModelUsage.cost_usd * (1.0 - cost / own_cost), type_=Double()),
        )
        .select_from(ModelUsage)
        .join(Message, Message.id == ModelUsage.message_id)
        .where(
            *_traffic(window),
            *around.conditions(Message.created_at),
            own["model"].as_string() == ModelUsage.model,
            cost < own_cost,
            other["quality"].as_float() >= own["quality"].as_float() - margin,
        )
        .group_by(ModelUsage.domain, ModelUsage.model, "alternative")
    )


def _candidates(dialect: str, name: str) -> TableValuedAlias:
    """Return the candidates that routing weighed, as rows of one JSON `value` beside their message."""
    value = column("value", JSON())
    if dialect == "sqlite":
        rows = func.json_each(Message.model_metadata, "$.route.candidates")
        return rows.table_valued(value, name=name, joins_implicitly=True)
    # PostgreSQL can store an escaped NUL in JSON, but not read the JSON that holds it: older rows may.
    readable = case((cast(Message.model_metadata, Text).not_like(r"%\u0000%", escape="~"), Message.model_metadata))
    rows = func.json_array_elements(readable.op("#>")(text("'{route,candidates}'")))
    return rows.table_valued(value, joins_implicitly=True).render_derived(name=name)
