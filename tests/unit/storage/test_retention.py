from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from modelyard.errors import InvalidInput
from modelyard.storage import Database, retention
from modelyard.storage.retention import delete_expired, delete_project, delete_user
from modelyard.storage.tables import (
    Alert,
    ApiKey,
    Base,
    Experiment,
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
from tests.unit.storage.usage_rows import NEW_YEAR, message_row, store, usage_row

EVERYTHING = (Message, Fragment, ModelUsage, Feedback, Exposure, Alert, Project, ApiKey, Quota, Spending)


def _project(name: str) -> list[Base]:
    key = f"{name}-key"
    alert = {"kind": "spending", "severity": "info", "message": "much", "value": 2.0, "line": 1.0}
    return [
        Project(id=name, name=name),
        ApiKey(id=key, project_id=name, name="k", prefix=name, hash="h", scopes=["chat"]),
        Quota(scope="project", subject=name),
        Quota(scope="key", subject=key),
        Spending(scope="project", subject=name, period="2026-01", spent_usd=1.0),
        Alert(**alert, subject=name, details={"per": "project"}),
        Alert(**alert, subject=key, details={"per": "key"}),
        Alert(**alert, subject=name, details={"per": "domain"}),
    ]


def _asked(name: str, *, project: str | None = None, user: str | None = None, days: float = 0.0) -> list[Base]:
    """A message with everything that can hang on it."""
    at = NEW_YEAR + timedelta(days=days)
    return [
        message_row(id=name, project_id=project, user_id=user, created_at=at),
        Fragment(message_id=name, position=0, kind="text", text="Because.", start=0, end=8),
        usage_row(message_id=name, project_id=project, created_at=at),
        usage_row(message_id=name, project_id=project, created_at=at, kind="attempt"),
        Feedback(message_id=name, rating=4, wrong_model=False, created_at=at),
        Exposure(experiment_id="e", message_id=name, arm="a", propensity=0.5, unit=name, created_at=at),
    ]


def _counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        counts = {table.__tablename__: session.scalar(select(func.count()).select_from(table)) for table in EVERYTHING}
    return {name: count for name, count in counts.items() if count}


@pytest.fixture
def filled(database: Database) -> Database:
    experiment = Experiment(id="e", name="e", kind="router", config={}, status="running")
    store(
        database,
        experiment, *_project("ours"), *_project("theirs"),
        *_asked("a", project="ours", user="ada"), *_asked("b", project="ours", user="bob"),
        *_asked("c", project="theirs", user="ada"), *_asked("d", days=10),
        Feedback(message_id="d", rating=1, wrong_model=True, user_id="ada", created_at=NEW_YEAR + timedelta(days=10)),
        Exposure(experiment_id="e", arm="a", propensity=0.5, unit="ada", created_at=NEW_YEAR + timedelta(days=10)),
    )  # fmt: skip
    return database


def test_a_user_is_deleted_everywhere_and_nobody_else(filled: Database) -> None:
    before = _counts(filled)
    gone = delete_user(filled, "ada")
    assert gone == {"message": 2, "fragment": 2, "model_usage": 4, "feedback": 3, "exposure": 3}
    assert _counts(filled) == {name: count - gone.get(name, 0) for name, count in before.items()}
    with filled.read() as session:
        assert set(session.scalars(select(Message.id))) == {"b", "d"}
        assert set(session.scalars(select(ModelUsage.message_id))) == {"b", "d"}
    assert delete_user(filled, "ada") == {}


def test_charges_of_a_deleted_user_can_stay_without_saying_whose_they_were(filled: Database) -> None:
    gone = delete_user(filled, "ada", keep_charges=True)
    assert gone == {"message": 2, "fragment": 2, "feedback": 3, "exposure": 3}
    with filled.read() as session:
        left = session.scalars(select(ModelUsage.message_id)).all()
    assert sorted(left, key=str) == [None, None, None, None, "b", "b", "d", "d"]


def test_a_project_is_deleted_with_its_keys_limits_and_alerts(filled: Database) -> None:
    before = _counts(filled)
    store(filled, usage_row(project_id="ours", kind="orphan", status="orphaned"))
    store(filled, Feedback(message_id="d", rating=1, wrong_model=False, project_id="ours"))
    gone = delete_project(filled, "ours")
    assert gone == {
        "project": 1, "api_key": 1, "quota": 2, "spending": 1, "alert": 2,
        "message": 2, "fragment": 2, "model_usage": 5, "feedback": 3, "exposure": 2,
    }  # fmt: skip
    extra = {"model_usage": 1, "feedback": 1}
    assert _counts(filled) == {name: count + extra.get(name, 0) - gone.get(name, 0) for name, count in before.items()}
    with filled.read() as session:
        assert session.scalars(select(Project.id)).all() == ["theirs"]
        assert set(session.scalars(select(Message.id))) == {"c", "d"}
    assert delete_project(filled, "ours") == {}


def test_each_table_keeps_its_rows_for_its_own_time(filled: Database) -> None:
    at = NEW_YEAR + timedelta(days=15)
    gone = delete_expired(filled, {"message": 10, "model_usage": 30, "exposure": 20}, at=at)
    assert gone == {"message": 3, "fragment": 3, "feedback": 3}
    gone = delete_expired(filled, {"model_usage": 10, "feedback": 4, "exposure": 5}, at=at)
    assert gone == {"model_usage": 6, "feedback": 2, "exposure": 3}
    with filled.read() as session:
        assert session.scalars(select(Message.id)).all() == ["d"]


def test_only_resolved_alerts_grow_old(database: Database) -> None:
    alert = {"kind": "k", "severity": "info", "subject": "s", "message": "m", "value": 2.0, "line": 1.0, "details": {}}
    store(database, Alert(**alert, created_at=NEW_YEAR), Alert(**alert, created_at=NEW_YEAR, resolved_at=NEW_YEAR))
    store(database, Alert(**alert, resolved_at=now()))
    assert delete_expired(database, {"alert": 1}) == {"alert": 1}
    assert delete_expired(database, {"alert": 1}) == {}


def test_more_than_a_batch_goes_too(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    store(sqlite, *(message_row(user_id="ada") for _ in range(7)), *(usage_row() for _ in range(7)))
    assert delete_user(sqlite, "ada") == {"message": 7}
    assert delete_expired(sqlite, {"model_usage": 1}) == {"model_usage": 7}


def test_a_user_with_a_name_of_any_length_is_found(database: Database) -> None:
    longest = "x" * 5000
    store(database, message_row(user_id=f"{longest}1"), message_row(user_id=f"{longest}2"), message_row(user_id="\0x"))
    assert delete_user(database, f"{longest}1") == {"message": 1}
    assert delete_user(database, "\0x") == {"message": 1}
    assert _counts(database) == {"message": 1}


@pytest.mark.parametrize(
    ("days", "rule"),
    [({"message": 0}, "more than 0 days, but got 0 for 'message'"), ({"message": -1.5}, "more than 0 days"),
     ({"alias_change": 3}, "kept for message, model_usage, feedback, exposure, alert, but got 'alias_change'")],
)  # fmt: skip
def test_periods_that_make_no_sense_are_refused(sqlite: Database, days, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        delete_expired(sqlite, days)


def test_deleting_nobody_is_refused(sqlite: Database) -> None:
    with pytest.raises(InvalidInput, match="needs the user's name"):
        delete_user(sqlite, "")
    with pytest.raises(InvalidInput, match="needs its id"):
        delete_project(sqlite, "")
