"""Makes the limits that the settings ask for."""

from __future__ import annotations

from modelyard.control.limits import Limits, LocalLimits
from modelyard.control.quotas import Quotas
from modelyard.settings import Settings
from modelyard.storage.database import Database


def make_limits(settings: Settings, quotas: Quotas, database: Database) -> Limits:
    """Return limits in Redis where the settings name one, else in this process.

    Raises:
        InvalidSetting: The URL of Redis is not one.
        MissingExtra: The Redis client is not installed.
    """
    if settings.redis_url is None:
        return LocalLimits(quotas, database)
    from modelyard.control.redis_limits import RedisLimits

    return RedisLimits(quotas, database, settings.redis_url, without=settings.without_redis)
