from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from modelyard.storage import Database, Message, ModelUsage
from modelyard.storage.spool import Spool
from modelyard.storage.spool_lines import Entry, decode, encode
from modelyard.storage.spool_locks import claimed
from modelyard.storage.spool_refused import REFUSED
from modelyard.storage.tables.base import JsonText
from modelyard.storage.writer import Writer

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def usage(id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{id}:0", "created_at": NOW, "message_id": id, "model": "m", "prompt_tokens": 3, "completion_tokens": 4, "cost_usd": 0.5,
        "latency_ms": 7.0, "estimated": False, **more,
    }  # fmt: skip


def message(id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id, "created_at": NOW, "composite": "auto", "prompt": "p", "answer": "a", "model": "m", "domain": "css",
        "complexity": "simple",
        "status": "complete", "model_metadata": {"a": [1]}, "rag_sources": [], "processing_metadata": [], **more,
    }  # fmt: skip


def ended(id: str, **more: Any) -> dict[str, Any]:
    return {"message": message(id, **more), "usages": [usage(id)]}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


def ids(database: Database) -> tuple[list[str], list[str]]:
    with database.read() as session:
        return (
            sorted(session.scalars(select(Message.id))),
            sorted(f"{row.id} {row.kind}" for row in session.scalars(select(ModelUsage))),
        )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1, max_size=10), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_a_line_reads_back_as_it_was_written(id: str, facts: dict[str, Any]) -> None:
    line = encode(Entry("finish", id, facts))

    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == Entry("finish", id, facts)


@given(st.dictionaries(st.sampled_from(["id", "model_metadata", "rag_sources", "processing_metadata"]), JSON))
def test_json_columns_are_read_back_as_the_text_that_they_were_written_in(message: dict[str, Any]) -> None:
    entry = decode(encode(Entry("finish", "m", {"message": message, "usages": [{"id": "m"}]}))[:-1])

    assert entry is not None
    found = entry.facts["message"]
    texts = {name: value for name, value in found.items() if isinstance(value, JsonText)}
    assert set(texts) == {name for name, value in message.items() if name != "id" and isinstance(value, dict | list)}
    assert {**found, **{name: orjson.loads(str(text)) for name, text in texts.items()}} == message
    assert entry.facts["usages"] == [{"id": "m"}]


@given(st.data())
def test_a_damaged_line_is_told(data: st.DataObject) -> None:
    line = bytearray(encode(Entry("begin", "m1", {"a": "text"}))[:-1])
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != line[at] and b != 10))
    line[at] = byte
    found = decode(bytes(line))

    # The case of the hash is not under the hash.
    assert found is None or found == Entry("begin", "m1", {"a": "text"})


def test_text_that_no_database_takes_is_written_readably() -> None:
    entry = decode(encode(Entry("finish", "m", {"at": NOW, "text": "\ud800 and more"}))[:-1])

    assert entry is not None
    assert entry.facts == {"at": NOW.isoformat(), "text": "? and more"}


def test_rows_reach_the_database_once(spool: Spool, database: Database) -> None:
    writer = Writer(spool, database)
    for n in range(30):
        spool.begin(f"m{n:02}", usage(f"m{n:02}", kind="orphan", status="orphaned"))
        spool.finish(f"m{n:02}", ended(f"m{n:02}", prompt="nul \x00 in it"))
    assert writer.flush()
    spool.finish("m00", ended("m00"))  # again, as after a crash between two commits
    assert writer.flush()
    writer.close()

    messages, usages = ids(database)
    assert messages == [f"m{n:02}" for n in range(30)]
    assert usages == [f"m{n:02}:0 chat" for n in range(30)]
    with database.read() as session:
        row = session.get_one(Message, "m07")
        assert (row.created_at, row.prompt, row.model_metadata) == (NOW, "nul \ufffd in it", {"a": [1]})


def test_files_roll_and_what_is_open_moves_on(spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.storage.spool.SEGMENT_BYTES", 2_000)
    writer = Writer(spool, sqlite)
    spool.begin("open", usage("open", kind="orphan", status="orphaned"))
    for n in range(50):
        spool.finish(f"m{n:02}", ended(f"m{n:02}"))
    assert writer.flush()
    writer.close()

    assert len(ids(sqlite)[0]) == 50
    assert [path.name for path in spool.folder.glob("*.spool")] == [spool.current.name]
    assert b'"open"' in spool.current.read_bytes()


def test_a_row_that_the_database_refuses_does_not_stop_the_others(spool: Spool, database: Database) -> None:
    writer = Writer(spool, database)
    spool.finish("good", ended("good"))
    spool.finish("bad", {"message": message("bad", model=None), "usages": [usage("bad")]})
    spool.finish("also", ended("also"))
    assert writer.flush()
    writer.close()

    assert ids(database) == (["also", "good"], ["also:0 chat", "bad:0 chat", "good:0 chat"])
    assert '"bad"' in (spool.folder / REFUSED).read_text("utf-8")
    assert writer.refused == 1  # the message, and with it its fragments, which follow from it


def test_rows_of_different_columns_share_a_batch(spool: Spool, database: Database) -> None:
    with_kind = {**usage("b"), "kind": "embedding", "deployment": "east"}
    spool.finish("a", ended("a"))
    spool.finish("b", {"message": None, "usages": [with_kind]})
    writer = Writer(spool, database)
    assert writer.flush()
    writer.close()
    assert ids(database)[1] == ["a:0 chat", "b:0 embedding"]


def test_a_number_that_no_column_holds_is_set_aside(spool: Spool, database: Database) -> None:
    for id, tokens in (("a", 3), ("b", 2**63), ("c", 4)):
        spool.finish(id, {"message": None, "usages": [{**usage(id), "prompt_tokens": tokens}]})
    writer = Writer(spool, database)
    assert writer.flush()
    assert (writer.problem, writer.refused) == (None, 1)
    writer.close()
    assert ids(database)[1] == ["a:0 chat", "c:0 chat"]


def test_rows_wait_while_the_database_is_gone(spool: Spool, tmp_path: Path) -> None:
    file = tmp_path / "yard.db"
    file.write_bytes(b"no database at all" * 100)
    database = Database(f"sqlite:///{file}")
    writer = Writer(spool, database, every_s=0.02)
    spool.finish("m", ended("m"))

    assert not writer.flush(2.0)
    assert writer.problem is not None
    assert "Usage waits in the spool" in writer.problem
    file.unlink()
    database.engine.dispose()
    assert writer.flush()
    assert writer.problem is None
    writer.close()
    assert ids(database)[0] == ["m"]
    database.close()


def test_a_folder_that_cannot_be_written_to_is_said_and_nothing_is_raised(tmp_path: Path, sqlite: Database) -> None:
    (tmp_path / "spool").write_text("a file in the way", "utf-8")
    spool = Spool(tmp_path / "spool")
    spool.begin("m", usage("m"))
    spool.finish("m", ended("m"))
    assert spool.problem is not None
    assert "Usage cannot be written" in spool.problem

    (tmp_path / "spool").unlink()  # and what was held in memory is written once it can be
    deadline = time.monotonic() + 10
    while spool.problem is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    writer = Writer(spool, sqlite)
    assert writer.flush()
    writer.close()
    spool.close()
    assert ids(sqlite)[0] == ["m"]


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.storage.test_spool import Spool, ended, usage
spool = Spool(Path(sys.argv[1]))
n = 0
while True:
    id = f"m{n:05}"
    spool.begin(id, usage(id, kind="orphan", status="orphaned"))
    spool.finish(id, ended(id))
    spool.begin(f"{id}-open", usage(f"{id}-open", kind="orphan", status="orphaned"))
    print(n, flush=True)
    n += 1
"""


def test_a_killed_process_loses_nothing_and_its_open_calls_are_charged(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "spool"
    environment = {**os.environ, "PYTHONPATH": "."}
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 200:
            pass
        child.send_signal(signal.SIGKILL)
        said = int((child.stdout.read().split() or ["200"])[-1])

    spool = Spool(folder)
    writer = Writer(spool, database)
    assert writer.flush(20)
    assert list(folder.glob("*.spool")) == [spool.current]
    writer.close()
    spool.close()
    messages, usages = ids(database)
    assert len(messages) >= said + 1
    assert {f"m{n:05}" for n in range(said + 1)} <= set(messages)
    assert {f"m{n:05}:0 chat" for n in range(said + 1)} <= set(usages)
    assert {f"m{n:05}-open:0 orphan" for n in range(said + 1)} <= set(usages)
    assert list(folder.iterdir()) == []


def test_files_of_the_living_are_left_alone(spool: Spool, sqlite: Database) -> None:
    other = Spool(spool.folder)
    other.begin("m", usage("m", kind="orphan", status="orphaned"))
    for holder in (spool, other):
        with claimed(spool.folder, holder.process) as estate:
            assert estate is None
    other.close()
    with claimed(spool.folder, other.process) as estate, claimed(spool.folder, other.process) as second:
        assert estate is not None
        assert [path for _, path in estate.segments] == [other.current]
        assert second is None


def test_a_torn_last_line_is_left_out(tmp_path: Path, sqlite: Database) -> None:
    dead = Spool(tmp_path / "spool")
    dead.finish("whole", ended("whole"))
    dead.close()
    with dead.current.open("ab") as file:
        file.write(encode(Entry("finish", "torn", ended("torn")))[:40])
    spool = Spool(tmp_path / "spool")
    writer = Writer(spool, sqlite)
    assert writer.flush(20)
    assert not dead.current.exists()
    writer.close()
    spool.close()
    assert ids(sqlite)[0] == ["whole"]


def test_database_that_is_locked_is_waited_for(spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.storage.database.BUSY_TIMEOUT_MS", 50)
    sqlite.engine.dispose()  # the next connections wait that short
    writer = Writer(spool, sqlite, every_s=0.02)
    with sqlite.write() as session:
        session.execute(text("UPDATE message SET status = status"))
        spool.finish("m", ended("m"))
        assert not writer.flush(20)
        assert "locked" in (writer.problem or "")
        assert writer.lag.rows == 1
    assert writer.flush(20)
    assert (writer.problem, writer.lag.rows, writer.lag_bytes) == (None, 0, 0)
    writer.close()
    assert ids(sqlite)[0] == ["m"]
