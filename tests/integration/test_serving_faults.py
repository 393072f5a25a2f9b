"""The server without its database, and killed: answers go on, and every one that was finished has its usage row, once."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, select, text

from modelyard.settings import Settings
from modelyard.storage import Database, Message, ModelUsage
from tests.faults.proxy import Proxy
from tests.integration.running import ASK, Running, running
from tests.integration.test_spool_faults import empty_postgresql, full_url, proxied  # noqa: F401  # pyright: ignore[reportUnusedImport]  (fixtures)
from tests.unit.serving.yard import Script, StubUpstream, furnish, stub_upstream

ROOT = Path(__file__).parents[2]
GONE_S = 5.0
CHAT = "/v1/chat/completions"


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.1)


@contextmanager
def load(server: Running, key: str | None = None, threads: int = 4) -> Generator[list[str]]:
    """Ask without pause meanwhile, and yield the ids of the answers; any other answer than one fails the test."""
    ids, ending = list[str](), threading.Event()

    def ask(number: int) -> None:
        while not ending.is_set():
            response = server.chat(key, stream=number % 2 == 1)
            response.raise_for_status()
            ids.append(response.headers["x-modelyard-id"])
            time.sleep(0.01)

    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(ask, number) for number in range(threads)]
        try:
            yield ids
        finally:
            ending.set()
        for future in asking:
            future.result()


def is_whole(server: Running, ids: list[str]) -> None:
    """Every answer has one message and one usage row, and there is no other row."""
    assert Counter(row.message_id for row in server.rows(ModelUsage)) == Counter(ids)
    assert Counter(row.id for row in server.rows(Message)) == Counter(ids)


def test_database_gone_under_load_costs_no_answer_and_no_row(
    furnished: Settings,
    proxied: tuple[Database, Database, Proxy],  # noqa: F811
) -> None:
    _, through, proxy = proxied
    changed = furnished.model_copy(update={"database_url": full_url(through), "auth": "keys"})
    with running(changed) as server:
        key = server.key()
        server.chat(key).raise_for_status()
        first = [row.message_id for row in server.rows(ModelUsage)]
        with load(server, key) as ids:
            until(lambda: len(ids) > 20, "load")
            proxy.cut()
            time.sleep(GONE_S)
            before = len(ids)
            until(lambda: len(ids) > before + 20, "answers without a database")
            health = server.health(key)
            assert (health["status"], health["database"]["state"]) == ("degraded", "failed")
            proxy.mend()
            until(lambda: server.health(key)["database"]["state"] == "ok", "the recovery")
        is_whole(server, [*first, *ids])


def test_locked_database_costs_no_answer_and_no_row(furnished: Settings) -> None:
    with running(furnished) as server:
        assert server.chat().status_code == 200
        [first] = [row.message_id for row in server.rows(ModelUsage)]
        file = furnished.database.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with load(server) as ids:
                until(lambda: len(ids) > 50, "answers beside the lock")
            until(lambda: server.health()["status"] == "degraded", "the report")
            assert server.health()["spool"]["waiting_bytes"] > 0
            until(lambda: "locked" in server.health()["database"].get("reason", ""), "the reason")
            other.execute("ROLLBACK")
        until(lambda: server.health()["database"]["state"] == "ok", "the recovery")
        is_whole(server, [first, *ids])


def test_full_database_costs_no_answer_and_no_row(furnished: Settings) -> None:
    def fill(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # no page more than there are

    with running(furnished) as server:
        assert server.chat().status_code == 200
        [first] = [row.message_id for row in server.rows(ModelUsage)]
        engine = server.parts.database.engine
        event.listen(engine, "connect", fill)
        engine.dispose()
        with load(server) as ids:
            until(lambda: len(ids) > 50, "answers beside the full database")
            until(lambda: "full" in server.health()["database"].get("reason", ""), "the report")
        assert server.health()["status"] == "degraded"
        event.remove(engine, "connect", fill)
        engine.dispose()
        until(lambda: server.health()["database"]["state"] == "ok", "the recovery")
        is_whole(server, [first, *ids])


def test_read_only_database_costs_no_answer_and_no_row(
    furnished: Settings,
    empty_postgresql: Database,  # noqa: F811
) -> None:
    empty_postgresql.migrate()

    def is_writable(writable: bool) -> None:
        name = empty_postgresql.engine.url.database
        with empty_postgresql.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {not writable}"))
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))

    with running(furnished.model_copy(update={"database_url": full_url(empty_postgresql)})) as server:
        assert server.chat().status_code == 200
        [first] = [row.message_id for row in server.rows(ModelUsage)]
        is_writable(False)
        with load(server) as ids:
            until(lambda: len(ids) > 50, "answers")
            until(lambda: server.health()["status"] == "degraded", "the report")
        assert not server.parts.writer.flush(1)
        assert server.health()["database"]["state"] == "failed"
        is_writable(True)
        until(lambda: server.health()["database"]["state"] == "ok", "the recovery")
        is_whole(server, [first, *ids])


def test_tables_that_are_gone_cost_no_answer_and_no_row(furnished: Settings) -> None:
    with running(furnished) as server:
        assert server.chat().status_code == 200
        [first] = [row.message_id for row in server.rows(ModelUsage)]
        with server.parts.database.engine.begin() as connection:
            for table in ("message", "model_usage"):
                connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_away"))
        with load(server) as ids:
            until(lambda: len(ids) > 50, "answers")
        assert not server.parts.writer.flush(1)
        health = server.health()
        assert (health["status"], health["database"]["state"]) == ("degraded", "failed")
        with server.parts.database.engine.begin() as connection:
            for table in ("message", "model_usage"):
                connection.execute(text(f"ALTER TABLE {table}_away RENAME TO {table}"))
        until(lambda: server.health()["database"]["state"] == "ok", "the recovery")
        is_whole(server, [first, *ids])


def test_feedback_without_a_database_asks_to_come_back(furnished: Settings) -> None:
    with running(furnished) as server:
        answer = server.chat().json()
        server.rows(Message)
        with server.parts.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE feedback RENAME TO away"))
        response = server.post("/v1/feedback", {"message_id": answer["id"], "rating": 3})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["error"]["code"] == "database_unavailable"
        assert "sqlite" not in response.text


@contextmanager
def process(settings: Settings) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """The server as a process of its own, killed at the end."""
    command = "from modelyard.cli import main; raise SystemExit(main(['serve', '--port', '0']))"
    environment = {
        "MODELYARD_HOME": str(settings.home),
        "MODELYARD_CATALOG": str(settings.catalog),
        "MODELYARD_PROBE_S": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }
    with subprocess.Popen([sys.executable, "-c", command], env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = ""
        for line in child.stderr:
            said += line
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                break
        else:
            pytest.fail(f"the server did not come up: {said}")
        silence = threading.Thread(target=child.stderr.read)
        silence.start()
        try:
            yield found.group(1), child
        finally:
            child.kill()
            silence.join()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system cannot limit the files of another process")
def test_full_disk_under_the_database_costs_no_answer_and_no_row(furnished: Settings) -> None:
    ids = list[str]()
    log = Path(furnished.database.removeprefix("sqlite:///") + "-wal")
    with process(furnished) as (url, child), httpx.Client(base_url=url, timeout=60) as client:

        def ask() -> bool:
            response = client.post(CHAT, json={"model": "team", "messages": ASK})
            response.raise_for_status()
            ids.append(response.headers["x-modelyard-id"])
            return True

        def database() -> dict[str, Any]:
            return client.get("/health").json()["database"]

        # The database's log must be far longer than the spool, which stays below the limit.
        until(lambda: ask() and log.stat().st_size > 1_000_000, "a log that is long enough")
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
        until(lambda: ask() and database()["state"] == "failed", "the report")
        for _ in range(20):
            ask()
        health = client.get("/health").json()
        assert (health["status"], health["spool"]["state"], health["spool"]["lost"]) == ("degraded", "ok", 0)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: database()["state"] == "ok", "the recovery")
    with running(furnished) as server:  # that one was killed at the end, perhaps before its last batch
        until(lambda: len(server.rows(ModelUsage)) >= len(ids), "the rest")
        is_whole(server, ids)


@pytest.mark.slow
async def test_killed_server_loses_no_finished_answer_and_charges_what_was_open(
    furnished: Settings, upstream: StubUpstream
) -> None:
    upstream.scripts["near"] = Script(endless=True)
    finished, begun = set[str](), set[str]()
    opened = asyncio.Event()

    async def ask(client: httpx.AsyncClient, stream: bool) -> None:
        while True:
            response = await client.post(CHAT, json={"model": "far", "messages": ASK, "stream": stream})
            if response.status_code == 200 and (not stream or response.text.endswith("data: [DONE]\n\n")):
                finished.add(response.headers["x-modelyard-id"])

    async def listen(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", CHAT, json={"model": "near", "messages": ASK, "stream": True}) as response:
            begun.add(response.headers["x-modelyard-id"])
            if len(begun) == 3:
                opened.set()
            async for _ in response.aiter_raw():
                pass

    with process(furnished) as (url, child):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            listening = [asyncio.create_task(listen(client)) for _ in range(3)]
            asking = [asyncio.create_task(ask(client, n % 2 == 1)) for n in range(6)]
            await asyncio.wait_for(opened.wait(), 30)
            while len(finished) < 100:
                await asyncio.sleep(0.05)
            child.send_signal(signal.SIGKILL)
            ends = await asyncio.gather(*listening, *asking, return_exceptions=True)
            assert all(isinstance(end, httpx.HTTPError) for end in ends)

    upstream.scripts.clear()
    with running(furnished) as server:  # takes over what the killed one left
        until(lambda: begun <= {row.message_id for row in server.rows(ModelUsage)}, "the orphans")
        with server.parts.database.read() as session:
            rows = session.execute(select(ModelUsage.message_id, ModelUsage.kind, ModelUsage.cost_usd)).all()
    kinds = {row.message_id: row.kind for row in rows}
    assert len(kinds) == len(rows)
    assert {kinds[id] for id in finished} == {"chat"}
    assert {kinds[id] for id in begun} == {"orphan"}
    assert all(row.cost_usd > 0 for row in rows)
    # Of the six that asked without pause each may have been killed anywhere.
    assert len(rows) - len(finished) - len(begun) <= 6
