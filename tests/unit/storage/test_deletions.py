"""What was deleted stays deleted, wherever it was on its way from."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from modelyard.storage import Database, Message, ModelUsage, StorageError, delete_project, delete_user
from modelyard.storage.deletions import Deletions
from modelyard.storage.erasure import Erasure
from modelyard.storage.spool import Spool
from modelyard.storage.spool_refused import REFUSED, Refusal, damaged_line, set_aside
from modelyard.storage.spool_rows import RowStore
from modelyard.storage.tables import Deletion, Fragment
from modelyard.storage.writer import Writer
from tests.unit.storage.spool_load import ended, orphan, usage

SECRET = "the-secret-text"


def asked(
    id: str, *, user: str | None = None, project: str | None = None, at: datetime | None = None
) -> dict[str, Any]:
    found = ended(id)
    moment = (at or datetime.now(UTC)).isoformat()
    found["message"] |= {"user_id": user, "project_id": project, "prompt": SECRET, "created_at": moment}
    found["usages"] = [usage(id, project_id=project, created_at=moment)]
    return found


def stored(database: Database) -> tuple[set[str], set[str | None]]:
    with database.read() as session:
        return set(session.scalars(select(Message.id))), set(session.scalars(select(ModelUsage.message_id)))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture
def writer(spool: Spool, database: Database) -> Iterator[Writer]:
    made = Writer(spool, database)
    yield made
    made.close()


@pytest.fixture
def erasure(database: Database, writer: Writer) -> Erasure:
    return Erasure(database, writer, lambda: None)


def texts_on_disk(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_what_waits_in_the_spool_is_deleted_too(erasure: Erasure, spool: Spool, database: Database) -> None:
    spool.finish("a", asked("a", user="kim"))
    spool.finish("b", asked("b", user="lee"))
    assert erasure.user("kim") == {"fragment": 2, "message": 1, "model_usage": 1}
    assert stored(database) == ({"b"}, {"b"})


def test_rows_from_before_a_deletion_do_not_come_back_and_later_ones_do(database: Database) -> None:
    rows = RowStore(database)
    before, later = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(seconds=5)
    delete_user(database, "kim")
    assert (
        rows.store([asked("a", user="kim", at=before), asked("b", user="kim", at=later), asked("c", user="lee")]) == []
    )
    assert stored(database) == ({"b", "c"}, {"b", "c"})


def test_nothing_of_a_deleted_project_comes_back_at_any_time(database: Database) -> None:
    rows = RowStore(database)
    delete_project(database, "p-1")
    later = datetime.now(UTC) + timedelta(minutes=1)
    embedding = {"message": None, "usages": [usage("e", project_id="p-1")]}
    rows.store([asked("a", project="p-1", at=later), embedding, asked("b", project="p-2")])
    assert stored(database) == ({"b"}, {"b"})


def test_charges_that_stay_come_back_without_saying_whose_they_were(database: Database) -> None:
    delete_user(database, "kim", keep_charges=True)
    RowStore(database).store([asked("a", user="kim", at=datetime(2026, 1, 1, tzinfo=UTC))])
    assert stored(database) == (set(), {None})


@pytest.mark.parametrize("keep_charges", [False, True])
def test_a_deletion_while_rows_are_stored_takes_them_along(database: Database, keep_charges: bool) -> None:
    old, deletions = datetime(2026, 1, 1, tzinfo=UTC), Deletions()
    batch = [asked("a", user="kim", at=old), asked("b", user="lee", at=old)]
    with database.connected() as connection, deletions.honoured(connection, batch) as kept:
        delete_user(database, "kim", keep_charges=keep_charges)  # finds nothing yet
        with database.write() as session:
            for rows in kept:
                message = {**rows["message"], "created_at": old}
                session.add(Message(**message))
                session.add(ModelUsage(**{**rows["usages"][0], "created_at": old}))
    assert stored(database) == ({"b"}, {"b", None} if keep_charges else {"b"})


def test_rows_that_a_killed_process_had_stored_before_its_second_look_go_at_the_next(database: Database) -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    batch = [asked("a", user="kim", at=old)]
    with database.write() as session:
        session.add(Deletion(kind="user", subject=_digest("kim"), deleted_at=datetime.now(UTC), keep_charges=False))
        session.add(Message(**{**batch[0]["message"], "created_at": old}))
        session.add(ModelUsage(**{**batch[0]["usages"][0], "created_at": old}))
    RowStore(database).store(batch)
    assert stored(database) == (set(), set())


def test_a_user_who_is_deleted_again_is_noted_once(database: Database) -> None:
    for name in ("kim", "lee", "lee"):
        delete_user(database, name)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Deletion)) == 2
        assert "lee" not in str(session.scalars(select(Deletion.subject)).all())


def test_a_second_deletion_is_seen_by_whoever_has_read_the_first(database: Database) -> None:
    rows = RowStore(database)
    delete_user(database, "kim")
    rows.store([asked("x", user="lee")])
    moment = datetime.now(UTC)
    delete_user(database, "kim")
    rows.store([asked("a", user="kim", at=moment)])
    assert stored(database)[0] == {"x"}


def test_no_text_is_left_in_any_file(erasure: Erasure, spool: Spool, sqlite: Database, tmp_path: Path) -> None:
    spool.begin("open", orphan("open"))
    spool.finish("a", asked("a", user="kim"))
    assert texts_on_disk(tmp_path) != []
    erasure.user("kim")
    assert texts_on_disk(tmp_path) == []


def test_an_answer_that_was_under_way_leaves_no_text_either(
    erasure: Erasure, spool: Spool, writer: Writer, database: Database
) -> None:
    under_way = asked("a", user="kim")
    erasure.user("kim")
    spool.finish("a", under_way)
    assert erasure.follow()
    assert (stored(database), texts_on_disk(spool.folder)) == ((set(), set()), [])
    assert not erasure.follow()


def test_other_processes_follow(erasure: Erasure, database: Database, tmp_path: Path) -> None:
    cleared: list[str] = []
    other_spool = Spool(tmp_path / "other")
    other_writer = Writer(other_spool, database)
    other = Erasure(database, other_writer, lambda: cleared.append("caches"))
    assert not other.follow()
    other_spool.begin("open", orphan("open"))
    other_spool.finish("a", asked("a", user="kim"))
    assert other_writer.flush()
    erasure.user("kim")
    assert texts_on_disk(other_spool.folder) != []
    assert other.follow()
    assert (texts_on_disk(other_spool.folder), cleared, stored(database)) == ([], ["caches"], (set(), set()))
    other_writer.close()
    other_spool.close()


def test_refused_rows_of_the_deleted_go_and_others_stay(erasure: Erasure, spool: Spool, database: Database) -> None:
    with database.write() as session:
        session.add(Message(**{**asked("there", user="lee")["message"], "created_at": datetime.now(UTC)}))
    kim, lee = asked("a", user="kim"), asked("b", user="lee")
    line = orjson.dumps(["a", kim])
    refused = [
        Refusal("message", kim["message"], "too long"),
        Refusal("request", kim, "no usage"),
        damaged_line(Path("x.spool"), b"F00000000" + line),
        Refusal("fragment", {"message_id": "gone", "text": SECRET}, "odd"),
        Refusal("message", lee["message"], "too long"),
        Refusal("fragment", {"message_id": "there"}, "odd"),
        Refusal("line", {"file": "y", "base64": base64.b64encode(b"noise").decode()}, "The CRC does not fit"),
        Refusal("usage", usage("u", project_id="p-2"), "odd"),
    ]
    set_aside(spool.folder, refused)
    erasure.user("kim")
    left = [orjson.loads(row) for row in (spool.folder / REFUSED).read_bytes().splitlines()]
    assert [row["table"] for row in left] == ["message", "fragment", "line", "usage"]
    assert left[0]["row"]["user_id"] == "lee"
    erasure.project("p-2")
    assert b"p-2" not in (spool.folder / REFUSED).read_bytes()
    set_aside(spool.folder, refused[-1:])
    assert len((spool.folder / REFUSED).read_bytes().splitlines()) == 4


def test_without_the_database_nothing_is_deleted_and_it_is_said(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'folder' / 'yard.db'}")
    (tmp_path / "folder" / "yard.db").mkdir()
    writer = Writer(spool, database)
    spool.finish("a", asked("a", user="kim"))
    with pytest.raises(StorageError, match="Nothing was deleted"):
        Erasure(database, writer, lambda: None).user("kim")
    writer.close()
    database.close()


def test_fragments_go_with_their_messages(erasure: Erasure, spool: Spool, writer: Writer, database: Database) -> None:
    spool.finish("a", asked("a", user="kim"))
    assert writer.flush()
    erasure.user("kim")
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Fragment)) == 0


def _digest(name: str) -> str:
    from modelyard.storage.deletions import digest_of

    return digest_of(name)
