"""Two server processes that share Redis share one limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from modelyard.control.keys import KeyRing
from modelyard.control.quotas import Quota, Quotas
from modelyard.settings import Settings
from modelyard.storage import Database
from tests.integration.running import ASK
from tests.unit.control.limiting import REDIS, redis_answers
from tests.unit.serving.yard import furnish, stub_upstream

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PER_MINUTE = 3


@pytest.fixture(autouse=True)
def _redis(require_service: Callable[[str, object], None]) -> None:
    require_service("Redis", redis_answers())


@contextmanager
def served(settings: Settings, folder: Path) -> Iterator[str]:
    """Run `modelyard serve` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "MODELYARD_HOME": str(settings.home),
        "MODELYARD_CATALOG": str(settings.catalog),
        "MODELYARD_AUTH": "keys",
        "MODELYARD_REDIS_URL": REDIS,
        "MODELYARD_PROBE_S": "0",
        "PYTHONPATH": str(ROOT),
    }
    code = f"from modelyard.cli import main; raise SystemExit(main(['serve', '--port', '{port}']))"
    with (folder / f"{port}.log").open("w") as log:
        child = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env={**os.environ, **own}, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", child)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()
            child.wait(30)


def _wait_for(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert child.poll() is None, "the server ended"
        try:
            httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not come up")


def test_one_limit_holds_for_two_processes(settings: Settings, tmp_path: Path) -> None:
    with stub_upstream() as upstream, ExitStack() as stack:
        furnished = furnish(settings, upstream, tmp_path)
        database = Database(furnished.database)
        database.migrate()
        principal, key = KeyRing(database).create("shop", "test", ["chat"])
        Quotas(database).put(Quota("key", str(principal.key_id), requests_per_minute=PER_MINUTE))
        stack.callback(_forget, str(principal.key_id))
        urls = [stack.enter_context(served(furnished, tmp_path)) for _ in range(2)]
        statuses = [_chat(urls[n % 2], key) for n in range(2 * PER_MINUTE)]
        database.close()
    assert sorted(statuses) == [200] * PER_MINUTE + [429] * PER_MINUTE
    assert len(upstream.raw) == PER_MINUTE


def _chat(url: str, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "team", "messages": ASK}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code


def _forget(subject: str) -> None:
    client = redis.Redis.from_url(REDIS)
    for found in client.scan_iter(match=f"*{subject}*"):
        client.delete(found)
    client.close()
