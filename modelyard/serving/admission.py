"""The gate before a call: the limits, also where they cannot be read."""

from __future__ import annotations

import logging

from modelyard.control.keys import ANONYMOUS, Principal
from modelyard.control.limits import Limits, Permit
from modelyard.control.lines import NO_MODEL
from modelyard.storage import StorageError
from modelyard.types import Usage

log = logging.getLogger("modelyard.serving")


async def admit(
    limits: Limits, principal: Principal, model: str, most: Usage, *, least_tokens: int | None = None
) -> Permit | None:
    """Reserve the most that a call can use; None where limits could never be read and nobody was asked for a key.

    `least_tokens` is what it takes in any case, where nobody knows how long its answer will be.

    A server without authentication keeps answering while its database is gone from the start on, and `/health` says that limits are not
    known. With keys it refuses: they stand for somebody's money.

    Raises:
        LimitExceeded: A limit is reached.
        StorageError: The limits of a key could never be read.
    """
    try:
        return await limits.admit(principal, model, most.total_tokens, most.cost_usd, least_tokens=least_tokens)
    except StorageError as error:
        if principal is not ANONYMOUS:
            raise
        log.warning("A request was let through without limits: %s", error)
        return None


async def count(limits: Limits, principal: Principal) -> None:
    """Count a request that calls no model, such as feedback, under the requests a minute of its key and project.

    Raises:
        LimitExceeded: They are used up.
        StorageError: The limits of a key could never be read.
    """
    await admit(limits, principal, NO_MODEL, Usage(0, 0, 0.0))
