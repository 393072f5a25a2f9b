"""Routes for the champions: which version serves, how it came to, promotion through the gate, and the way back."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter

from modelyard.errors import CorruptModel
from modelyard.registry import champions, promotion
from modelyard.registry.promotion import HistoryEntry
from modelyard.registry.verdict import Verdict
from modelyard.serving.admin.context import Context
from modelyard.serving.admin.records import ChampionRecord, MoveRecord, Promotion, Rollback
from modelyard.serving.admin.security import Admin, who
from modelyard.settings import Settings

Component = Literal["classifier", "router"]

router: Final = APIRouter(tags=["promotions"])


@router.get("/champions")
def list_champions(context: Context) -> list[ChampionRecord]:
    """Say for each component which version serves, and whether it is whole."""
    return [_champion(component, context.settings) for component in champions.COMPONENTS]


@router.get("/promotions")
def list_promotions(context: Context, component: Component | None = None) -> list[MoveRecord]:
    """Return every move of a champion, newest first, with the verdict behind it."""
    return [_move(entry) for entry in promotion.history(component, context.settings)]


@router.post("/promotions", status_code=201)
def promote(asked: Promotion, context: Context, principal: Admin) -> MoveRecord:
    """Make a registered version the champion, if the gate lets the verdict through; this process serves it then, others soon."""
    verdict = Verdict.from_json(asked.verdict, "The field 'verdict'")
    entry = promotion.promote(
        asked.component,
        asked.version,
        who=who(principal),
        reason=asked.reason,
        verdict=verdict,
        settings=context.settings,
    )
    context.changed()
    return _move(entry)


@router.post("/promotions/rollback", status_code=201)
def rollback(asked: Rollback, context: Context, principal: Admin) -> MoveRecord:
    """Make the version before the champion the champion again."""
    entry = promotion.rollback(asked.component, who=who(principal), reason=asked.reason, settings=context.settings)
    context.changed()
    return _move(entry)


def _champion(component: Component, settings: Settings) -> ChampionRecord:
    found = champions.check(component, settings)
    try:
        current = champions.read_current(component, settings)
    except CorruptModel:
        current = None  # `check` has said so
    return ChampionRecord(
        component=component, state=found.state, detail=found.detail, version=current.version if current else None
    )


def _move(entry: HistoryEntry) -> MoveRecord:
    move = entry.move
    return MoveRecord(
        number=move.number,
        component=move.component,
        action=move.action,
        from_version=move.from_version,
        to_version=move.to_version,
        who=move.who,
        reason=move.reason,
        run_ids=list(move.run_ids),
        verdict=None if move.verdict is None else dict(move.verdict),
        at=move.at,
        took_effect=entry.took_effect,
    )
