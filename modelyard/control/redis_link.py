"""The connection to Redis: short time-outs, one second try, and a rest after a failure."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from modelyard.errors import InvalidSetting, MissingExtra, ModelyardError

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

TIMEOUT_S: Final = 1.0
REST_S: Final = 1.0  # after a failure Redis is left alone: not everybody waits for a time-out
CONNECTIONS: Final = 32

Argument = str | int | float | bytes

log = logging.getLogger("modelyard.control")


class RedisGone(ModelyardError):
    """Redis did not do what was asked, or perhaps did and could not say so."""


class RedisLink:
    """Runs scripts in Redis; belongs to one event loop.

    Args:
        url: Redis' URL; its password is never shown.

    Raises:
        InvalidSetting: The URL is not Redis'.
        MissingExtra: The Redis client is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import ConnectionError as NotConnected
            from redis.exceptions import RedisError
            from redis.exceptions import TimeoutError as TimedOut
        except ImportError:
            raise MissingExtra("Limits in Redis need the extra 'redis': pip install 'modelyard[redis]'.") from None
        self._gone: tuple[type[Exception], ...] = (NotConnected, TimedOut, OSError, TimeoutError)
        self._errors = (RedisError, *self._gone)
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # the second try is ours: some scripts must know of it
            )
        except (ValueError, TypeError):
            raise InvalidSetting("MODELYARD_REDIS_URL must be a URL such as redis://localhost:6379/0.") from None
        self._redis = Redis.from_pool(pool)
        self._problem: str | None = None
        self._rests_until = -math.inf

    @property
    def problem(self) -> str | None:
        """Why Redis is not used, or None."""
        return self._problem

    def script(self, text: str) -> AsyncScript:
        """Return a script that `call` runs."""
        return self._redis.register_script(text)

    def rests(self) -> bool:
        """Whether Redis is left alone now; after the rest, the first one who asks may try."""
        now = time.monotonic()
        if now < self._rests_until:
            return True
        if self._problem is not None:
            self._rests_until = now + 2 * TIMEOUT_S + REST_S  # others wait for how this try ends
        return False

    async def call(
        self,
        script: AsyncScript,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        again: Sequence[Argument] | None = None,
    ) -> list[Any]:
        """Run a script, and once more where the connection broke, as after a restart of Redis; then with the arguments `again`.

        Raises:
            RedisGone: It failed.
        """
        try:
            try:
                found: Any = await script(keys=keys, args=arguments)
            except self._errors:
                found = await script(keys=keys, args=arguments if again is None else again)
        except self._errors as error:
            raise self._failed(error) from None
        if self._problem is not None:
            log.warning("Redis counts limits again")
            self._problem, self._rests_until = None, -math.inf
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _failed(self, error: Exception) -> RedisGone:
        # What Redis says no to may concern one call: others still try.
        self._rests_until = time.monotonic() + REST_S if isinstance(error, self._gone) else -math.inf
        problem = f"Redis cannot be used for limits: {type(error).__name__}: {' '.join(str(error).split())}"
        if self._problem is None:
            log.error("%s", problem)
        self._problem = problem
        return RedisGone(problem)
