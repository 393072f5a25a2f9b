"""The history of the registry's aliases: MLflow keeps none, so it is kept here, append-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import select

from modelyard.storage.database import Database
from modelyard.storage.tables import AliasChange, now

Action = Literal["promote", "rollback", "bootstrap"]


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias.

    Attributes:
        component: What moved, such as `classifier` or `router`.
        alias: The alias, such as `champion`.
        from_version: The version it pointed at before, or None.
        to_version: The version it points at from now on.
        action: Why it could move: a promotion, a rollback, or the first version of all.
        who: The person or job that moved it.
        reason: One sentence.
        run_ids: The MLflow runs behind it.
        verdict: The verdict that the gate read, JSON-ready.
        at: When.
        number: The row's number once it is stored; two moves that differ in nothing else are equal.
    """

    component: str
    alias: str
    from_version: str | None
    to_version: str
    action: Action
    who: str
    reason: str
    run_ids: tuple[str, ...] = ()
    verdict: Mapping[str, Any] | None = None
    at: datetime = field(default_factory=now)
    number: int | None = field(default=None, compare=False)


def append_alias_move(database: Database, move: AliasMove) -> int:
    """Store a move and return its number.

    Raises:
        StorageError: The database failed.
    """
    row = AliasChange(
        at=move.at,
        who=move.who,
        component=move.component,
        alias=move.alias,
        from_version=move.from_version,
        to_version=move.to_version,
        reason=move.reason,
        run_ids=list(move.run_ids),
        verdict=None if move.verdict is None else dict(move.verdict),
        action=move.action,
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        return row.id


def alias_moves(
    database: Database, component: str | None = None, alias: str | None = None, *, limit: int | None = None
) -> tuple[AliasMove, ...]:
    """Return the moves, newest first, of one component or alias or of all.

    Raises:
        StorageError: The database failed.
    """
    query = select(AliasChange).order_by(AliasChange.id.desc()).limit(limit)
    if component is not None:
        query = query.where(AliasChange.component == component)
    if alias is not None:
        query = query.where(AliasChange.alias == alias)
    with database.read() as session:
        return tuple(_move(row) for row in session.scalars(query))


def _move(row: AliasChange) -> AliasMove:
    return AliasMove(
        component=row.component,
        alias=row.alias,
        from_version=row.from_version,
        to_version=row.to_version,
        action=cast("Action", row.action),
        who=row.who,
        reason=row.reason,
        run_ids=tuple(row.run_ids),
        verdict=row.verdict,
        at=row.at,
        number=row.id,
    )
