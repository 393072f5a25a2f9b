"""How long rows are kept, and deletion of everything of one user or project.

Both delete in batches, each a short transaction, so that writers hardly wait. Whoever is interrupted calls again: what is left is deleted
then. Rows that still lie in a spool are not stored any more (`deletions`). Files and caches are `erasure`'s; nothing reaches traces, logs,
or the history of aliases, which names operators and no callers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

from sqlalchemy import ColumnElement, CursorResult, and_, delete, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from modelyard.errors import InvalidInput
from modelyard.storage.database import Database
from modelyard.storage.deletions import record_deletion
from modelyard.storage.tables import (
    Alert,
    ApiKey,
    Exposure,
    Feedback,
    Fragment,
    Message,
    ModelUsage,
    Project,
    Quota,
    Spending,
    now,
)

Kept = Literal["message", "model_usage", "feedback", "exposure", "alert"]
BATCH: Final = 1000  # rows deleted in one transaction; also below SQLite's and PostgreSQL's limits of parameters


@dataclass(frozen=True, slots=True)
class _Aged:
    id: InstrumentedAttribute[Any]
    since: InstrumentedAttribute[Any]
    only: ColumnElement[bool] | None = None


_AGED: Final[dict[Kept, _Aged]] = {
    "message": _Aged(Message.id, Message.created_at),
    "model_usage": _Aged(ModelUsage.id, ModelUsage.created_at),
    "feedback": _Aged(Feedback.id, Feedback.created_at),
    "exposure": _Aged(Exposure.id, Exposure.created_at),
    "alert": _Aged(Alert.id, Alert.created_at, Alert.resolved_at.is_not(None)),  # an open alert is never old
}

Charges = Literal["keep", "unlink", "delete"]  # what becomes of a deleted message's usage
_HANGING: Final[dict[Charges, tuple[InstrumentedAttribute[Any], ...]]] = {
    "keep": (Fragment.message_id, Feedback.message_id),
    "unlink": (Fragment.message_id, Feedback.message_id, Exposure.message_id),
    "delete": (Fragment.message_id, Feedback.message_id, Exposure.message_id, ModelUsage.message_id),
}


def delete_expired(database: Database, days: Mapping[Kept, float], *, at: datetime | None = None) -> dict[str, int]:
    """Delete the rows that are older than their table's days, and return how many went, by table.

    A message takes its fragments and feedback along, its usage stays. A table that is not named keeps its rows.

    Args:
        database: Where the rows are.
        days: Days by table: `message`, `model_usage`, `feedback`, `exposure`, `alert` (those that are resolved).
        at: The moment that ages are counted from; now unless given.

    Raises:
        InvalidInput: A table has no period, or its days are not positive; nothing was deleted.
        StorageError: The database failed; what was deleted before stays deleted.
    """
    for table, kept in days.items():
        if table not in _AGED:
            raise InvalidInput(f"A retention period is kept for {', '.join(get_args(Kept))}, but got {table!r}.")
        if not kept > 0:
            raise InvalidInput(f"A retention period must be more than 0 days, but got {kept!r} for {table!r}.")
    moment, gone = at or now(), Counter[str]()
    for table, kept in days.items():
        aged = _AGED[table]
        old = aged.since < moment - timedelta(days=kept)
        condition = old if aged.only is None else and_(old, aged.only)
        if table == "message":
            gone += _delete_messages(database, condition, charges="keep")
        else:
            gone[table] += _delete(database, aged.id, condition)
    return _counted(gone)


def delete_user(database: Database, user_id: str, *, keep_charges: bool = False) -> dict[str, int]:
    """Delete everything of one of the callers' users, in every project, and return how many rows went, by table that lost any.

    That is their messages with fragments, feedback, exposures and usage, and the feedback that they gave on other messages.

    Args:
        database: Where the rows are.
        user_id: The user, as the application named them.
        keep_charges: Keep the usage and take its message's id away instead: spending stays true, and says no longer whose it was.

    Raises:
        InvalidInput: The name is empty.
        StorageError: The database failed; what was deleted before stays deleted.
    """
    if not user_id:
        raise InvalidInput("Deleting a user needs the user's name, but got an empty one.")
    with database.write() as session:
        record_deletion(session, "user", user_id, keep_charges=keep_charges)
    gone = _delete_messages(database, Message.user_id == user_id, charges="unlink" if keep_charges else "delete")
    gone["feedback"] += _delete(database, Feedback.id, Feedback.user_id == user_id)
    gone["exposure"] += _delete(database, Exposure.id, Exposure.unit == user_id)
    return _counted(gone)


def delete_project(database: Database, project_id: str) -> dict[str, int]:
    """Delete everything of one project, and the project, and return how many rows went, by table that lost any.

    Its keys go first, so that no new requests come; servers that know a key already let it in until they look again.

    Raises:
        InvalidInput: The id is empty.
        StorageError: The database failed; what was deleted before stays deleted.
    """
    if not project_id:
        raise InvalidInput("Deleting a project needs its id, but got an empty one.")
    with database.write() as session:
        record_deletion(session, "project", project_id)
        gone = Counter(dict(_delete_access(session, project_id)))
    gone += _delete_messages(database, Message.project_id == project_id, charges="delete")
    gone["model_usage"] += _delete(database, ModelUsage.id, ModelUsage.project_id == project_id)
    gone["feedback"] += _delete(database, Feedback.id, Feedback.project_id == project_id)
    return _counted(gone)


def _delete_access(session: Session, project_id: str) -> Iterator[tuple[str, int]]:
    keys = session.scalars(select(ApiKey.id).where(ApiKey.project_id == project_id)).all()
    for table in (Quota, Spending):
        owned = or_(
            and_(table.scope == "project", table.subject == project_id),
            and_(table.scope == "key", table.subject.in_(keys)),
        )
        yield table.__tablename__, _run(session, delete(table).where(owned))
    per = Alert.details["per"].as_string()
    about = or_(
        and_(per == "project", Alert.subject == project_id),
        and_(per == "key", Alert.subject.in_(keys)),
    )
    yield "alert", _run(session, delete(Alert).where(about))
    yield "api_key", _run(session, delete(ApiKey).where(ApiKey.project_id == project_id))
    yield "project", _run(session, delete(Project).where(Project.id == project_id))


def _delete_messages(database: Database, condition: ColumnElement[bool], *, charges: Charges) -> Counter[str]:
    """Delete messages and what hangs on them; counts by table."""
    gone = Counter[str]()
    while True:
        with database.write() as session:
            ids = session.scalars(select(Message.id).where(condition).limit(BATCH)).all()
            if not ids:
                return gone
            for message_id in _HANGING[charges]:
                table: Any = message_id.class_
                gone[table.__tablename__] += _run(session, delete(table).where(message_id.in_(ids)))
            if charges == "unlink":
                session.execute(update(ModelUsage).where(ModelUsage.message_id.in_(ids)).values(message_id=None))
            gone["message"] += _run(session, delete(Message).where(Message.id.in_(ids)))


def _delete(database: Database, id: InstrumentedAttribute[Any], condition: ColumnElement[bool]) -> int:
    gone, table = 0, cast("Any", id.class_)
    while True:
        with database.write() as session:
            ids = session.scalars(select(id).where(condition).limit(BATCH)).all()
            if not ids:
                return gone
            gone += _run(session, delete(table).where(id.in_(ids)))


def _counted(gone: Counter[str]) -> dict[str, int]:
    return {table: count for table, count in sorted(gone.items()) if count}


def _run(session: Session, statement: Any) -> int:
    found = session.execute(statement, execution_options={"synchronize_session": False})
    return found.rowcount if isinstance(found, CursorResult) else 0
