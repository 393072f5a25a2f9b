"""The spool and its writer under what goes wrong for real: killed processes, a database cut off, disks that are full or closed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text

from modelyard.storage import Database, Message, ModelUsage
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from tests.faults.proxy import Proxy
from tests.unit.storage.conftest import database, empty_postgresql, sqlite  # noqa: F401  (fixtures)
from tests.unit.storage.spool_load import ended, orphan

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0


def full_url(found: Database) -> str:
    return found.engine.url.render_as_string(hide_password=False)


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.storage.spool_load", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def said(child: subprocess.Popen[str], lines: int | None = None, *, kill: bool = True) -> tuple[set[str], set[str]]:
    """Read what a child begins and finishes, kill it after so many lines, and return both."""
    assert child.stdout is not None
    heard: list[str] = []
    for line in child.stdout:
        heard.append(line)
        if kill and len(heard) == lines:
            child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    words = [line.split() for line in heard if line.endswith("\n")]
    return {id for kind, id in words if kind == "b"}, {id for kind, id in words if kind == "f"}


def rows(found: Database) -> tuple[set[str], Counter[str], dict[str, str]]:
    """Return the messages, how many usage rows each has, and the kind of the usage row."""
    with found.read() as session:
        kinds = {str(id): kind for id, kind in session.execute(select(ModelUsage.message_id, ModelUsage.kind))}
        counts = Counter(str(id) for id in session.scalars(select(ModelUsage.message_id)))
        return set(session.scalars(select(Message.id))), counts, kinds


def check(found: Database, begun: set[str], finished: set[str]) -> None:
    """No finished request is lost, none is there twice, and what was under way is an orphan.

    A killed process may have handed over a request, or begun one, and not come to say so: at most one a thread.
    """
    messages, counts, kinds = rows(found)
    assert finished <= messages
    assert set(counts.values()) <= {1}
    assert begun <= set(kinds)
    assert {id for id, kind in kinds.items() if kind == "chat"} == messages
    assert {id for id, kind in kinds.items() if kind == "orphan"} == set(kinds) - messages
    assert {id for id in begun - finished if kinds[id] != "orphan"} <= messages - finished


def drained(folder: Path, found: Database) -> Writer:
    """Let a process of its own kind take over what is left, and return its closed writer."""
    spool = Spool(folder)
    writer = Writer(spool, found)
    assert writer.flush(DEADLINE_S), (writer.problem, spool.problem)
    writer.close()
    spool.close()
    return writer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_killed_again_and_again_under_load(folder: Path, database: Database) -> None:  # noqa: F811
    begun: set[str] = set()
    finished: set[str] = set()
    for round in range(4):  # each takes over from the one before, and is killed while it may be at it
        more = said(started(str(folder), full_url(database), f"r{round}"), 40 + 300 * round)
        begun, finished = begun | more[0], finished | more[1]
    writer = drained(folder, database)
    check(database, begun, finished)
    assert writer.refused == writer.damaged == 0
    assert list(folder.iterdir()) == []


def test_crash_between_the_databases_commit_and_the_spools(folder: Path, database: Database) -> None:  # noqa: F811
    begun, finished = said(started(str(folder), full_url(database), "c", "crash"), kill=False)
    assert finished
    assert drained(folder, database).refused == 0
    check(database, begun, finished)


def test_several_writers_take_over_each_estate_once(folder: Path, database: Database) -> None:  # noqa: F811
    dead = [said(started(str(folder), full_url(database), f"d{n}"), 200) for n in range(2)]
    spools = [Spool(folder) for _ in range(3)]
    writers = [Writer(spool, database) for spool in spools]
    assert all(writer.flush(DEADLINE_S) for writer in writers)
    for writer, spool in zip(writers, spools, strict=True):
        writer.close()
        spool.close()
    drained(folder, database)
    check(database, dead[0][0] | dead[1][0], dead[0][1] | dead[1][1])
    with database.read() as session:
        orphans = len(session.scalars(select(ModelUsage.id).where(ModelUsage.kind == "orphan")).all())
    assert sum(writer.orphans for writer in writers) == orphans


@pytest.fixture
def proxied(empty_postgresql: Database) -> Iterator[tuple[Database, Database, Proxy]]:  # noqa: F811
    """PostgreSQL as it is, and through a proxy."""
    empty_postgresql.migrate()
    url = make_url(full_url(empty_postgresql))
    proxy = Proxy(url.host or "127.0.0.1", url.port or 5432)
    through = Database(url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False))
    yield empty_postgresql, through, proxy
    through.close()
    proxy.close()


def under_load(spool: Spool, fault: Callable[[], None], *, per_s: int = 400) -> list[str]:
    """Hand over requests from two threads before, during and after a fault, and return their ids."""
    done, stop = [], threading.Event()

    def work(name: str) -> None:
        n = 0
        while not stop.wait(2 / per_s):
            id = f"{name}{n}"
            spool.begin(id, orphan(id))
            spool.finish(id, ended(id))
            done.append(id)
            n += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        fault()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return done


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.mark.parametrize("gone_s", [5.0])
def test_database_cut_off_under_load(folder: Path, proxied: tuple[Database, Database, Proxy], gone_s: float) -> None:
    direct, through, proxy = proxied
    spool = Spool(folder)
    writer = Writer(spool, through, every_s=0.02)

    def fault() -> None:
        wait_for(lambda: writer.written > 20)
        proxy.cut()
        time.sleep(gone_s)
        wait_for(lambda: writer.problem)
        assert writer.lag.rows > 100
        assert spool.problem is None
        proxy.mend()
        wait_for(lambda: writer.problem is None)

    finished = under_load(spool, fault)
    assert writer.flush(DEADLINE_S)
    assert (writer.lag.rows, writer.refused, writer.damaged) == (0, 0, 0)
    writer.close()
    spool.close()
    check(direct, set(finished), set(finished))


def test_connections_cut_again_and_again_while_rows_are_stored(
    folder: Path, proxied: tuple[Database, Database, Proxy]
) -> None:
    direct, through, proxy = proxied
    spool = Spool(folder)
    writer = Writer(spool, through, every_s=0.005)

    def fault() -> None:
        for n in range(30):  # at any moment of a batch, commits among them
            time.sleep(0.02 + n % 7 * 0.003)
            proxy.cut()
            proxy.mend()

    finished = under_load(spool, fault, per_s=2000)
    assert writer.flush(DEADLINE_S), writer.problem
    assert writer.refused == 0
    writer.close()
    spool.close()
    check(direct, set(finished), set(finished))


def test_standby_takes_no_rows_and_none_is_set_aside(folder: Path, empty_postgresql: Database) -> None:  # noqa: F811
    empty_postgresql.migrate()
    name = empty_postgresql.engine.url.database
    change = f"ALTER DATABASE {name} SET default_transaction_read_only = "
    with empty_postgresql.engine.connect() as connection:
        connection.execute(text(change + "on"))
        connection.commit()
    empty_postgresql.engine.dispose()
    spool = Spool(folder)
    writer = Writer(spool, empty_postgresql, every_s=0.02)
    spool.finish("m", ended("m"))
    assert not writer.flush(DEADLINE_S)
    assert (writer.refused, writer.lag.rows) == (0, 1)
    assert "read-only" in (writer.problem or "")
    with empty_postgresql.engine.connect() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        connection.execute(text(change + "off"))
        connection.commit()
    empty_postgresql.engine.dispose()
    wait_for(lambda: writer.flush(DEADLINE_S))
    writer.close()
    spool.close()
    check(empty_postgresql, {"m"}, {"m"})


LOCKED = """
connection = __import__("sqlite3").connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print(1, flush=True)
input()
"""


def test_sqlite_locked_by_another_process_under_load(folder: Path, sqlite: Database) -> None:  # noqa: F811
    with sqlite.engine.connect() as connection:
        connection.exec_driver_sql(
            "PRAGMA busy_timeout = 50"
        )  # this connection goes back to the pool, and to the writer
    spool = Spool(folder)
    writer = Writer(spool, sqlite, every_s=0.02)

    def fault() -> None:
        command = [sys.executable, "-c", "import sys" + LOCKED, str(sqlite.engine.url.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            other.stdout.readline()
            wait_for(lambda: writer.problem)
            assert "locked" in str(writer.problem)
            wait_for(lambda: writer.lag.rows > 50)
            other.communicate("\n")

    finished = under_load(spool, fault)
    assert writer.flush(DEADLINE_S)
    writer.close()
    spool.close()
    check(sqlite, set(finished), set(finished))


def in_a_process(code: str, *arguments: str) -> str:
    """Run a program that imports the load's helpers, and return what it prints."""
    head = "import os, resource, sys, time\nfrom pathlib import Path\nfrom modelyard.storage.spool import Spool\n"
    head += "from tests.unit.storage.spool_load import ended, orphan\n"
    command = [sys.executable, "-c", head + code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


# RLIMIT_FSIZE makes the kernel write a part of a line and refuse the rest, as a full disk does.
FULL = """
spool = Spool(Path(sys.argv[1]))
spool.finish("before", ended("before"))
resource.setrlimit(resource.RLIMIT_FSIZE, (spool.position[1] + 40, resource.RLIM_INFINITY))
for n in range(20):
    spool.begin(f"during{n}", orphan(f"during{n}"))
    spool.finish(f"during{n}", ended(f"during{n}"))
print(spool.problem, spool.kept, spool.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while spool.kept:
    time.sleep(0.01)
spool.finish("after", ended("after"))
print(spool.problem)
os._exit(0)
"""


def test_full_disk_keeps_entries_in_memory_and_tears_no_line(folder: Path, sqlite: Database) -> None:  # noqa: F811
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    during, after = in_a_process(FULL, str(folder)).splitlines()
    assert during.startswith(f"Usage cannot be written to {folder}: ")
    assert during.endswith(" 40 0")
    assert after == "None"
    writer = drained(folder, sqlite)
    assert (writer.damaged, writer.orphans) == (0, 0)
    expected = {"before", "after", *(f"during{n}" for n in range(20))}
    check(sqlite, expected, expected)


CLOSED_FOLDER = """
folder = Path(sys.argv[1])
folder.mkdir()
folder.chmod(0o500)
if os.getuid() == 0:
    os.chown(folder, 65534, 65534)
    os.setuid(65534)
spool = Spool(folder)
spool.begin("m", orphan("m"))
spool.finish("m", ended("m"))
print(spool.problem)
folder.chmod(0o700)
while spool.kept:
    time.sleep(0.01)
print(spool.problem, len(list(folder.glob("*.spool"))))
os._exit(0)
"""


def test_folder_that_is_closed_and_opened_again(sqlite: Database) -> None:  # noqa: F811
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o777)
        folder = Path(name) / "spool"
        before, after = in_a_process(CLOSED_FOLDER, str(folder)).splitlines()
        assert before == f"Usage cannot be written to {folder}: Permission denied."
        assert after == "None 1"
        drained(folder, sqlite)
    check(sqlite, {"m"}, {"m"})


FORKED = """
spool = Spool(Path(sys.argv[1]))
spool.begin("parents", orphan("parents"))
pid = os.fork()
name = "child" if pid == 0 else "parent"
for n in range(200):
    spool.begin(f"{name}{n}", orphan(f"{name}{n}"))
    spool.finish(f"{name}{n}", ended(f"{name}{n}"))
if pid == 0:
    spool.begin("childs", orphan("childs"))
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
spool.finish("parents", ended("parents"))
print(len(list(spool.folder.glob("*.spool"))))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_child_writes_files_of_its_own(folder: Path, sqlite: Database) -> None:  # noqa: F811
    assert in_a_process(FORKED, str(folder)).strip() == "2"
    writer = drained(folder, sqlite)
    assert (writer.damaged, writer.orphans) == (0, 1)
    expected = {"parents", *(f"{name}{n}" for name in ("child", "parent") for n in range(200))}
    check(sqlite, expected | {"childs"}, expected)
