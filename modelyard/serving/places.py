"""The places of the requests that are answered at once, and how these go through the stages of an answer."""

from __future__ import annotations

import asyncio

from modelyard.errors import LimitExceeded

RETRY_S = 1.0


class Places:
    """So many requests are answered at once; belongs to one event loop.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0

    def take(self) -> None:
        """Take a place; whoever takes one gives it back.

        Raises:
            LimitExceeded: All are taken.
        """
        if self._taken >= self._most:
            raise LimitExceeded(
                f"The server answers {self._most} requests at once, and all places are taken.",
                retry_after_s=RETRY_S,
                kind="capacity",
            )
        self._taken += 1

    def give_back(self) -> None:
        """Give a place back."""
        self._taken -= 1

    async def gather(self) -> None:
        """Let the other requests that are ready come as far as this one; does nothing for one that is alone.

        They then go through the next stage one after the other, while its code and data are in the processor's caches: a request that
        goes through all stages by itself finds them cold (cohort scheduling, Larus and Parkes 2002).
        """
        if self._taken > 1:
            await asyncio.sleep(0)
