"""A process of its own that spends as much as it is let: `python -m tests.unit.control.spender DATABASE PREFIX CALLS COST`.

Prints how many calls were let through. Each settles at what it reserved.
"""

from __future__ import annotations

import asyncio
import sys

from modelyard.control.quotas import Quotas
from modelyard.control.redis_limits import RedisLimits
from modelyard.errors import LimitExceeded
from modelyard.storage import Database
from tests.unit.control.limiting import REDIS, WEB


async def spend(database: Database, prefix: str, calls: int, cost_usd: float) -> int:
    quotas = Quotas(database)
    limits = RedisLimits(quotas, database, REDIS, prefix=prefix)

    async def call() -> bool:
        try:
            permit = await limits.admit(WEB, "auto", 1, cost_usd)
        except LimitExceeded:
            return False
        await asyncio.sleep(0.001)
        await limits.settle(permit, 1, cost_usd)
        return True

    found = await asyncio.gather(*(call() for _ in range(calls)))
    await limits.close()
    quotas.close()
    return sum(found)


if __name__ == "__main__":
    url, prefix, calls, cost = sys.argv[1:]
    database = Database(url)
    print(asyncio.run(spend(database, prefix, int(calls), float(cost))))
    database.close()
