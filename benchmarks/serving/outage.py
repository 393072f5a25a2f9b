"""Does a usage row get lost, or counted twice, while the database is gone or when the server is killed?

    python -m benchmarks.serving.outage [--gone-s 60] [--per-second 300] [--databases sqlite,postgresql] [--json OUT]

Under load all the time: the database goes for so long and comes back; once every row is there it goes again, and the server is killed with
SIGKILL while calls are under way; the database comes back, and the server is started again. PostgreSQL is cut off by a proxy, SQLite is
locked exclusively. Then every answer that its caller had whole is looked for in the database.

PostgreSQL is the one of MODELYARD_TEST_POSTGRES, as in the tests, or at localhost; a database of its own is made and dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sqlite3
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import create_engine, make_url, select, text

from benchmarks.serving.bench_yard import CATALOG
from benchmarks.serving.compare import free_port, key_with_limits, process
from modelyard.storage import Database, ModelUsage
from tests.faults.proxy import Proxy

POSTGRES: Final = os.environ.get("MODELYARD_TEST_POSTGRES", "postgresql+psycopg://postgres@localhost:5432")
SETTLE_S: Final = 5.0  # of load before, and of the second outage
BURST: Final = 64  # requests that are sent at once, right before the server is killed
DEADLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Place:
    """A database that can be taken away.

    Attributes:
        served: The URL that the server uses.
        direct: The URL that is always there.
        away: Takes it away for as long as the block lasts.
    """

    served: str
    direct: str
    away: Callable[[], AbstractContextManager[None]]


@dataclass(slots=True)
class Heard:
    """What the clients know: ids of answers that came whole, why others did not, and how many are being answered."""

    whole: list[str] = field(default_factory=list[str])
    failed: Counter[str] = field(default_factory=Counter[str])
    killed: bool = False
    under_way: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gone-s", type=float, default=60.0)
    parser.add_argument("--per-second", type=int, default=300)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    places = {"sqlite": _sqlite, "postgresql": _postgresql}
    results: dict[str, dict[str, Any]] = {}
    for name in args.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, places[name](Path(folder)) as place:
            results[name] = asyncio.run(outage(Path(folder), place, args.gone_s, args.per_second))
    print("\n".join(table(results)))
    if args.json:
        facts = {"schema": 1, "command": "outage", "seed": 0, "n": args.per_second, "results": results}
        args.json.write_text(json.dumps(facts))
    return int(any(row["lost"] or row["twice"] or row["failed"] for row in results.values()))


async def outage(home: Path, place: Place, gone_s: float, per_second: int) -> dict[str, Any]:
    """Take the database away under load, twice, kill the server, start it again, and return what became of the rows."""
    upstream, port, heard = free_port(), free_port(), Heard()
    (home / "catalog.toml").write_text(CATALOG.format(port=upstream), "utf-8")
    key = key_with_limits(home, place.direct)
    settings = {"HOME": home, "CATALOG": home / "catalog.toml", "DATABASE_URL": place.served, "AUTH": "keys"}
    environment = {**os.environ, **{f"MODELYARD_{name}": str(value) for name, value in settings.items()}}
    command = [str(Path(sys.executable).with_name("modelyard")), "serve", "--port", str(port)]
    cores = sorted(os.sched_getaffinity(0))
    stub = [sys.executable, "-m", "benchmarks.serving.stub", str(upstream)]
    headers, url = {"authorization": f"Bearer {key}"}, f"http://127.0.0.1:{port}"
    with process(stub, core=cores[0]):
        with process(command, core=cores[-1], env=environment) as server:
            async with aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
                await _until_up(session)
                async with _load(session, heard, per_second):
                    await asyncio.sleep(SETTLE_S)
                    with place.away():
                        await asyncio.sleep(gone_s)
                        waited = await _waiting_bytes(session)
                    back_s = await _until_stored(session)
                    with place.away():
                        await asyncio.sleep(SETTLE_S)
                        burst = [asyncio.create_task(_ask(session, heard, n)) for n in range(BURST)]
                        await asyncio.wait(burst, return_when=asyncio.FIRST_COMPLETED)
                        server.kill()
                        heard.killed, at_the_kill = True, heard.under_way
                        await asyncio.gather(*burst)
        with process(command, core=cores[-1], env=environment):
            async with aiohttp.ClientSession(url, headers=headers) as session:
                await _until_up(session)
                await _until_adopted(home / "spool")
    facts = {"waited_mb": waited / 1e6, "back_s": back_s, "under_way": at_the_kill}
    return {**facts, **_compared(place.direct, heard)}


def _compared(url: str, heard: Heard) -> dict[str, Any]:
    database = Database(url)
    with database.read() as session:
        rows = session.execute(select(ModelUsage.message_id, ModelUsage.kind)).all()
    database.close()
    count, whole = Counter(str(id) for id, _ in rows), set(heard.whole)
    chats = {str(id) for id, kind in rows if kind == "chat"}
    orphans = {str(id) for id, kind in rows if kind == "orphan"}
    return {
        "answered": len(whole),
        "failed": dict(heard.failed),
        "rows": len(rows),
        "lost": len(whole - chats),
        "twice": sum(found - 1 for found in count.values()),
        "orphans": len(orphans),
        "unheard": len(chats - whole),
    }


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the rows of a Markdown table."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "answered": lambda row: str(row["answered"]),
        "failed": lambda row: ", ".join(f"{count} x {why}" for why, count in row["failed"].items()) or "0",
        "in the spool after the outage": lambda row: f"{row['waited_mb']:.1f} MB",
        "stored after": lambda row: f"{row['back_s']:.1f} s",
        "under way at SIGKILL": lambda row: str(row["under_way"]),
        "usage rows": lambda row: str(row["rows"]),
        "lost": lambda row: str(row["lost"]),
        "counted twice": lambda row: str(row["twice"]),
        "orphans": lambda row: str(row["orphans"]),
        "finished, but unheard": lambda row: str(row["unheard"]),
    }
    lines = [("database", *columns), ("---",) * (len(columns) + 1)]
    lines += [(name, *(cell(row) for cell in columns.values())) for name, row in results.items()]
    return [f"| {' | '.join(line)} |" for line in lines]


@asynccontextmanager
async def _load(session: aiohttp.ClientSession, heard: Heard, per_second: int) -> AsyncGenerator[None]:
    """Send so many requests a second, whether or not they are answered, as long as the block lasts."""
    asked = set[asyncio.Task[None]]()

    async def send() -> None:
        started, number = time.monotonic(), 0
        while True:
            while number < (time.monotonic() - started) * per_second:
                task = asyncio.create_task(_ask(session, heard, number))
                asked.add(task)
                task.add_done_callback(asked.discard)
                number += 1
            await asyncio.sleep(0.01)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        await asyncio.gather(*asked)


async def _ask(session: aiohttp.ClientSession, heard: Heard, number: int) -> None:
    """Ask, every second time for a stream; an answer counts once its last byte is there."""
    stream = number % 2 == 1
    body = {"model": "bench", "stream": stream, "messages": [{"role": "user", "content": f"Centre div {number}."}]}
    heard.under_way += 1
    try:
        async with session.post("/v1/chat/completions", json=body) as response:
            read = await response.read()
            if response.status == 200 and (not stream or read.endswith(b"data: [DONE]\n\n")):
                heard.whole.append(response.headers["x-modelyard-id"])
            else:
                heard.failed[_why(response.status, read)] += 1
    except aiohttp.ClientError as error:
        if not heard.killed:
            heard.failed[type(error).__name__] += 1
    finally:
        heard.under_way -= 1


def _why(status: int, body: bytes) -> str:
    """Return the code of an error's body, or of the error that a stream ended in."""
    codes = re.findall(rb'"code":"(\w+)"', body)
    return f"{status} {codes[-1].decode() if codes else 'cut'}"


async def _until(holds: Callable[[], Any], what: str) -> float:
    started = time.monotonic()
    while not await holds():
        if time.monotonic() - started > DEADLINE_S:
            raise SystemExit(f"{what} did not come about within {DEADLINE_S:g} s.")
        await asyncio.sleep(0.1)
    return time.monotonic() - started


async def _until_up(session: aiohttp.ClientSession) -> None:
    async def is_up() -> bool:
        with suppress(aiohttp.ClientError):
            async with session.get("/health") as response:
                return response.status == 200
        return False

    await _until(is_up, "The start")


async def _metric(session: aiohttp.ClientSession, name: str) -> float:
    async with session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def _waiting_bytes(session: aiohttp.ClientSession) -> float:
    return await _metric(session, "modelyard_spool_waiting_bytes")


async def _until_stored(session: aiohttp.ClientSession) -> float:
    """Wait until the database has caught up, but for what came in the last moment, and return how many seconds that took."""

    async def is_stored() -> bool:
        return await _waiting_bytes(session) < 1e6

    return await _until(is_stored, "The recovery")


async def _until_adopted(spool: Path) -> None:
    """Wait until the new process has stored what the killed one left, and removed its files."""

    async def is_adopted() -> bool:
        return len(list(spool.glob("*.lock"))) == 1

    await _until(is_adopted, "The takeover")


@contextmanager
def _sqlite(folder: Path) -> Generator[Place]:
    file = folder / "modelyard.db"

    @contextmanager
    def away() -> Generator[None]:
        connection = sqlite3.connect(file, isolation_level=None, timeout=60)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    yield Place(f"sqlite:///{file}", f"sqlite:///{file}", away)


@contextmanager
def _postgresql(_: Path) -> Generator[Place]:
    server, name = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT"), f"outage_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    direct = make_url(f"{POSTGRES}/{name}")
    proxy = Proxy(direct.host or "127.0.0.1", direct.port or 5432)

    @contextmanager
    def away() -> Generator[None]:
        proxy.cut()
        try:
            yield
        finally:
            proxy.mend()

    served = direct.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    try:
        yield Place(served, direct.render_as_string(hide_password=False), away)
    finally:
        proxy.close()
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


if __name__ == "__main__":
    raise SystemExit(main())
