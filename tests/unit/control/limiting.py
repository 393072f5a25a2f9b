"""Limits to test: in this process and in a real Redis, under a clock that stands still."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from modelyard.control.keys import Principal
from modelyard.control.limits import Limits, LocalLimits
from modelyard.control.quotas import Quota, Quotas
from modelyard.control.redis_limits import RedisLimits
from modelyard.storage import Database
from modelyard.storage.tables import Quota as Row
from tests.unit.control.clock import Clock

REDIS = os.environ.get("MODELYARD_TEST_REDIS", "redis://127.0.0.1:6379/0")
NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC).timestamp()
WEB = Principal("key-1", "project-1", "web", frozenset({"chat"}), None, "shop")
CLI = Principal("key-2", "project-1", "cli", frozenset({"chat"}), None, "shop")
OTHER = Principal("key-3", "project-2", "other", frozenset({"chat"}), None, "blog")


@dataclass
class Bench:
    """Limits with everything that a test moves."""

    limits: Limits
    quotas: Quotas
    database: Database
    clock: Clock

    def allow(self, *quotas: Quota) -> None:
        """Have exactly these quotas, here at once."""
        with self.database.write() as session:
            session.query(Row).delete()
            for quota in quotas:
                session.add(Row(**{name: getattr(quota, name) for name in quota.__slots__}))
        self.quotas.refresh()


def fresh_prefix() -> str:
    return f"modelyard-test:{{{uuid.uuid4().hex}}}"


def redis_answers() -> bool:
    import redis

    client = redis.Redis.from_url(REDIS, socket_connect_timeout=3)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def forget(prefix: str) -> None:
    """Take everything that a test left in Redis away."""
    import redis

    client = redis.Redis.from_url(REDIS)
    for key in client.scan_iter(match=f"{prefix}:*", count=1_000):
        client.delete(key)
    client.close()


@asynccontextmanager
async def local(database: Database, *, hold_s: float = 3_600.0) -> AsyncIterator[Bench]:
    clock, quotas = Clock(NOON), Quotas(database, ttl_s=1e9)
    limits = LocalLimits(quotas, database, clock=clock, monotonic=clock, hold_s=hold_s)
    try:
        yield Bench(limits, quotas, database, clock)
    finally:
        await limits.close()
        quotas.close()


@asynccontextmanager
async def shared(database: Database, *, hold_s: float = 3_600.0, prefix: str | None = None) -> AsyncIterator[Bench]:
    clock, quotas, used = Clock(NOON), Quotas(database, ttl_s=1e9), prefix or fresh_prefix()
    limits = RedisLimits(quotas, database, REDIS, prefix=used, clock=clock, redis_clock=clock, hold_s=hold_s)
    try:
        yield Bench(limits, quotas, database, clock)
    finally:
        await limits.close()
        quotas.close()
        if prefix is None:
            forget(used)
