"""What the spool and its writer do with rows, files and faults that are out of the ordinary."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import delete, func, select

from modelyard.storage import Database, Message, ModelUsage, delete_user
from modelyard.storage.spool import Spool
from modelyard.storage.spool_lines import decode
from modelyard.storage.spool_refused import REFUSED
from modelyard.storage.spool_rows import RowStore
from modelyard.storage.tables import Fragment
from modelyard.storage.writer import Writer
from tests.unit.storage.spool_load import ended, orphan, usage

ROOT = Path(__file__).parents[3]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool's thread does not come by itself."""
    monkeypatch.setattr("modelyard.storage.spool.SYNC_S", 1000.0)


def usages(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {str(id): kind for id, kind in session.execute(select(ModelUsage.message_id, ModelUsage.kind))}


def messages(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Message.id)))


def set_aside(spool: Spool) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (spool.folder / REFUSED).read_bytes().splitlines()]


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def in_a_process(code: str, *arguments: str) -> str:
    head = "import os, resource, sys\nfrom pathlib import Path\nfrom modelyard.storage import Database\n"
    head += "from modelyard.storage import spool as module\nfrom modelyard.storage.spool import Spool\n"
    head += "from modelyard.storage.writer import Writer\nfrom tests.unit.storage.spool_load import ended, orphan\n"
    command = [sys.executable, "-c", head + code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


def test_deleted_rows_stay_deleted_after_a_restart(spool: Spool, database: Database) -> None:
    writer = Writer(spool, database)
    spool.begin("open", orphan("open"))  # keeps the segment from being removed
    for n in range(3):
        spool.finish(f"m{n}", {**ended(f"m{n}"), "message": {**ended(f"m{n}")["message"], "user_id": "ada"}})
    assert writer.flush()
    writer.close()
    spool.close()
    assert spool.current.exists()
    delete_user(database, "ada")

    again = Spool(spool.folder)
    writer = Writer(again, database)
    assert writer.flush()
    writer.close()
    again.close()
    assert messages(database) == set()
    assert usages(database)["open"] == "orphan"
    assert list(spool.folder.iterdir()) == []


KILLED_AFTER_FLUSH = """
spool = Spool(Path(sys.argv[1]))
writer = Writer(spool, Database(sys.argv[2]))
spool.begin("open", orphan("open"))
for n in range(700):
    spool.finish(f"m{n}", ended(f"m{n}"))
assert writer.flush()
writer.close()
spool.finish("late", ended("late"))
os._exit(1)
"""


def test_deleted_rows_stay_deleted_after_a_kill(tmp_path: Path, sqlite: Database) -> None:
    folder = tmp_path / "spool"
    with pytest.raises(subprocess.CalledProcessError):
        in_a_process(KILLED_AFTER_FLUSH, str(folder), sqlite.engine.url.render_as_string(hide_password=False))
    assert len(messages(sqlite)) == 700
    with sqlite.write() as session:
        for table in (Fragment, Message, ModelUsage):
            session.execute(delete(table))
    spool = Spool(folder)
    writer = Writer(spool, sqlite)
    assert writer.flush()
    writer.close()
    spool.close()
    assert (messages(sqlite), usages(sqlite)) == ({"late"}, {"late": "chat", "open": "orphan"})


def test_files_are_gone_when_everything_is_stored(spool: Spool, sqlite: Database) -> None:
    writer = Writer(spool, sqlite)
    spool.finish("m", ended("m"))
    writer.close()
    spool.close()
    assert list(spool.folder.iterdir()) == []


def test_what_comes_after_the_close_is_kept_for_the_next_start(spool: Spool, sqlite: Database) -> None:
    writer = Writer(spool, sqlite)
    writer.close()
    spool.close()
    spool.finish("late", ended("late"))
    assert b"late" in spool.current.read_bytes()


POISON: dict[str, Callable[[], dict[str, Any]]] = {
    "a moment without time zone": lambda: {"message": None, "usages": [usage("bad", created_at="2026-01-02T03:04:05")]},
    "a moment that is none": lambda: {"message": None, "usages": [usage("bad", created_at="yesterday")]},
    "an unknown column": lambda: {"message": None, "usages": [usage("bad", colour="red")]},
    "a status that is none": lambda: {"message": None, "usages": [usage("bad", status="odd")]},
    "no model": lambda: {"message": None, "usages": [usage("bad", model=None)]},
    "not a number": lambda: {"message": None, "usages": [usage("bad", cost_usd=float("nan"))]},
    "a column that holds an object": lambda: {"message": None, "usages": [usage("bad", model={"m": 1})]},
    "no usages": lambda: {"message": None},
    "usages that are none": lambda: {"message": None, "usages": [1]},
    "a moment of another type": lambda: {"message": None, "usages": [usage("bad", created_at=3)]},
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_set_aside_and_the_rest_goes_on(spool: Spool, database: Database, name: str) -> None:
    spool.finish("first", ended("first"))
    spool.finish("bad", POISON[name]())
    spool.finish("last", ended("last"))
    writer = Writer(spool, database)
    assert writer.flush()
    spool.finish("later", ended("later"))
    assert writer.flush()
    assert (writer.problem, writer.refused, writer.lag.rows) == (None, 1, 0)
    writer.close()
    assert messages(database) == {"first", "last", "later"}
    assert set(usages(database)) == {"first", "last", "later"}
    (refusal,) = set_aside(spool)
    assert refusal["reason"]
    assert refusal["row"] == orjson.loads(
        orjson.dumps(POISON[name]()["usages"][0] if refusal["table"] == "usage" else POISON[name]())
    )


@pytest.mark.parametrize(
    "change", [{"rag_sources": [{}]}, {"rag_sources": None}, {"created_at": None}, {"domain": None}]
)
def test_message_that_is_refused_leaves_its_charge(spool: Spool, database: Database, change: dict[str, Any]) -> None:
    rows = ended("bad")
    spool.finish("bad", {**rows, "message": {**rows["message"], **change}})
    spool.finish("good", ended("good"))
    writer = Writer(spool, database)
    assert writer.flush()
    writer.close()
    assert messages(database) == {"good"}
    assert usages(database) == {"bad": "chat", "good": "chat"}
    (refusal,) = set_aside(spool)
    assert refusal["table"] == "message"
    assert refusal["row"].items() >= {"id": "bad", "model_metadata": {}, **change}.items()


def test_odd_texts_are_stored_as_answers_store_them(spool: Spool, database: Database) -> None:
    odd = "nul \x00, lone \ud800, whole \U0001f600"
    rows = ended("m")
    rows["message"] |= {"prompt": odd, "answer": odd, "user_id": odd, "model_metadata": {odd: [odd]}, "domain": "a\x00"}
    spool.finish("m", rows)
    writer = Writer(spool, database)
    assert writer.flush()
    assert writer.refused == 0
    writer.close()
    with database.read() as session:
        found = session.get_one(Message, "m")
        seen = "nul \ufffd, lone ?, whole \U0001f600"
        assert (found.prompt, found.answer, found.user_id, found.domain) == (seen, seen, seen, "a\ufffd")
        assert found.model_metadata == {seen: [seen]}


def test_long_answers_are_stored_whole(spool: Spool, database: Database) -> None:
    text = "☂" * (3 << 20)
    for n in range(3):
        rows = ended(f"m{n}")
        spool.finish(f"m{n}", {**rows, "message": {**rows["message"], "answer": text}})
    writer = Writer(spool, database)
    assert writer.flush(60)
    writer.close()
    with database.read() as session:
        assert set(session.scalars(select(func.length(Message.answer)))) == {len(text)}


def test_row_beyond_any_measure_keeps_its_charge(
    spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modelyard.storage.spool.LONGEST_LINE", 1000)
    rows = ended("m")
    spool.finish("m", {**rows, "message": {**rows["message"], "answer": "x" * 1000}})
    writer = Writer(spool, sqlite)
    assert writer.flush()
    writer.close()
    assert (messages(sqlite), usages(sqlite)) == (set(), {"m": "chat"})
    assert "its usage alone is kept" in caplog.text


def test_damaged_line_is_set_aside_and_the_rest_goes_on(spool: Spool, sqlite: Database) -> None:
    spool.finish("first", ended("first"))
    start = spool.position[1]
    spool.finish("bad", ended("bad"))
    spool.finish("last", ended("last"))
    content = bytearray(spool.current.read_bytes())
    content[start] ^= 4  # a finish becomes a begin
    spool.current.write_bytes(content)
    writer = Writer(spool, sqlite)
    assert writer.flush()
    assert (writer.damaged, writer.problem) == (1, None)
    writer.close()
    assert messages(sqlite) == {"first", "last"}
    (refusal,) = set_aside(spool)
    line = base64.b64decode(refusal["row"]["base64"])
    assert (refusal["table"], line[0], decode(line)) == ("line", content[start], None)


def test_files_are_their_owners_alone(spool: Spool, sqlite: Database) -> None:
    spool.begin("open", orphan("open"))
    spool.finish("bad", {"message": None})
    writer = Writer(spool, sqlite)
    assert writer.flush()
    writer.close()
    files = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()}
    assert files == {".spool": 0o600, ".lock": 0o600, ".jsonl": 0o600}
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700


def test_entries_that_wait_in_memory_keep_their_order(tmp_path: Path, unsynced: None) -> None:
    folder = tmp_path / "spool"
    folder.write_text("in the way")
    spool = Spool(folder)
    spool.begin("a", orphan("a"))
    folder.unlink()
    spool.finish("a", ended("a"))
    spool.begin("b", orphan("b"))
    assert spool.kept == 3
    spool.close()
    lines = spool.current.read_bytes().splitlines()
    kinds = [(entry.kind, entry.id) for entry in map(decode, lines) if entry]
    assert kinds[-3:] == [("begin", "a"), ("finish", "a"), ("begin", "b")]


def test_memory_is_bounded_in_entries_and_bytes(
    tmp_path: Path, unsynced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    folder.write_text("in the way")
    monkeypatch.setattr("modelyard.storage.spool.KEPT", 5)
    spool = Spool(folder)
    for n in range(8):
        spool.finish(f"m{n}", ended(f"m{n}"))
    assert (spool.kept, spool.dropped, spool.waiting) == (5, 3, 5)
    monkeypatch.setattr("modelyard.storage.spool.KEPT_BYTES", 5000)
    spool.finish("long", {"message": {"answer": "x" * 4900}, "usages": []})
    assert (spool.kept, spool.dropped, spool.waiting) == (1, 8, 1)
    spool.close()


def test_flush_says_that_entries_wait_in_memory(tmp_path: Path, sqlite: Database) -> None:
    folder = tmp_path / "spool"
    folder.write_text("in the way")
    spool = Spool(folder)
    writer = Writer(spool, sqlite)
    spool.finish("m", ended("m"))
    assert not writer.flush()
    folder.unlink()
    wait_for(lambda: not spool.kept)
    wait_for(writer.flush)
    assert writer.lag.rows == 0
    writer.close()
    spool.close()
    assert messages(sqlite) == {"m"}


def test_segment_removed_while_it_is_written_to_loses_nothing_that_the_writer_saw(
    spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(spool, sqlite)
    spool.finish("before", ended("before"))
    assert writer.flush()
    removed = spool.current
    for path in list(spool.folder.iterdir()):
        path.unlink()
    spool.finish("between", ended("between"))
    wait_for(lambda: spool.current != removed)
    spool.finish("after", ended("after"))
    assert writer.flush()
    writer.close()
    assert messages(sqlite) == {"before", "between", "after"}
    assert (spool.folder / f"{spool.process}.lock").exists()


def test_old_segments_are_left_and_their_texts_are_gone(
    spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.storage.spool.SEGMENT_S", 0.0)
    writer = Writer(spool, sqlite)
    spool.begin("open", orphan("open"))
    spool.finish("gone", ended("gone"))
    wait_for(
        lambda: writer.flush() and not any(b'"gone"' in path.read_bytes() for path in spool.folder.glob("*.spool"))
    )
    assert b'"open"' in spool.current.read_bytes()
    writer.close()


def test_an_unforeseen_failure_does_not_end_the_writer(
    spool: Spool, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RowStore.store
    failing = [True]

    def fails(self: RowStore, *arguments: Any) -> Any:
        if failing:
            raise RuntimeError("out of order")
        return store(self, *arguments)

    monkeypatch.setattr(RowStore, "store", fails)
    writer = Writer(spool, sqlite, every_s=0.01)
    spool.finish("m", ended("m"))
    assert not writer.flush()
    assert writer.problem == "Usage waits in the spool: RuntimeError: out of order."
    failing.clear()
    assert writer.flush()
    assert writer.problem is None
    writer.close()
    assert messages(sqlite) == {"m"}


def test_dead_letters_that_cannot_be_written_hold_the_batch_back(spool: Spool, sqlite: Database) -> None:
    (spool.folder / REFUSED).mkdir()
    writer = Writer(spool, sqlite, every_s=0.01)
    spool.finish("bad", {"message": None})
    spool.finish("good", ended("good"))
    assert not writer.flush()
    assert "Is a directory" in (writer.problem or "")
    (spool.folder / REFUSED).rmdir()
    assert writer.flush()
    writer.close()
    assert (messages(sqlite), len(set_aside(spool))) == ({"good"}, 1)


FULL_WHILE_ROLLING = """
spool = Spool(Path(sys.argv[1]))
for n in range(30):
    spool.begin(f"open{n}", orphan(f"open{n}"))
module.SEGMENT_BYTES = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
for n in range(50):
    spool.finish(f"m{n}", ended(f"m{n}"))
problem, kept = spool.problem, spool.kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.close()
print(problem is not None, kept, spool.problem, spool.kept, len(os.listdir("/proc/self/fd")) < 20)
os._exit(0)
"""


def test_disk_that_is_full_while_segments_change_is_got_over(tmp_path: Path, sqlite: Database) -> None:
    folder = tmp_path / "spool"
    assert in_a_process(FULL_WHILE_ROLLING, str(folder)).split() == ["True", "50", "None", "0", "True"]
    spool = Spool(folder)
    writer = Writer(spool, sqlite)
    assert writer.flush()
    writer.close()
    spool.close()
    assert messages(sqlite) == {f"m{n}" for n in range(50)}
    assert (writer.orphans, writer.damaged) == (30, 0)


FORKED_WRITER = """
spool = Spool(Path(sys.argv[1]))
writer = Writer(spool, Database(sys.argv[2]))
pid = os.fork()
if pid == 0:
    said = writer.problem
    os._exit(0 if said and "forked" in said and not writer.flush() else 1)
sys.stdout.write(str(os.waitpid(pid, 0)[1]) + str(writer.flush()))
sys.stdout.flush()
os._exit(0)
"""


def test_writer_of_a_forked_child_says_that_it_does_not_write(tmp_path: Path, sqlite: Database) -> None:
    url = sqlite.engine.url.render_as_string(hide_password=False)
    assert in_a_process(FORKED_WRITER, str(tmp_path / "spool"), url) == "0True"


def open_files() -> int:
    found = Path("/proc/self/fd")
    return len(list(found.iterdir())) if found.exists() else 0


def test_segments_that_are_left_are_closed(spool: Spool) -> None:
    before = open_files()
    for n in range(50):
        with spool._lock:
            spool._roll()
        if n % 10 == 9:
            spool.sync()
    spool.sync()
    after = open_files()
    assert after <= before + 3
