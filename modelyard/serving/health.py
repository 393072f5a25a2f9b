"""What `/health` tells, and to whom: a stranger the status, a key the state of each part, an operator the reasons and the deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from modelyard import __version__
from modelyard.control.pools import Shared
from modelyard.control.principals import Principal

LASTS_S: Final = 1.0  # how long a report stays good, however many ask
LONGEST_S: Final = 5.0  # that anybody waits for a look; a database that hangs must not make health hang
OPERATORS: Final = frozenset({"admin", "analytics"})

Facts = Mapping[str, Any]


class Checkup:
    """Reports on a server, looking once for all who ask at about the same time.

    Args:
        look: Returns the facts, `status` among them; blocks.
        lasts_s: How long they stay good.
        longest_s: Longest wait for them.
    """

    def __init__(self, look: Callable[[], Facts], *, lasts_s: float = LASTS_S, longest_s: float = LONGEST_S) -> None:
        self._shared: Shared[Facts] = Shared("health", look, lasts_s)
        self._longest_s = longest_s
        self._known: Facts = {}

    async def facts(self, principal: Principal | None) -> dict[str, Any]:
        """Return what this caller may know, None being a stranger."""
        try:
            found = self._known = await asyncio.wait_for(self._shared.get(), self._longest_s)
        except TimeoutError:
            late = f"The look at the server's parts has not come back within {self._longest_s:g} s."
            problems = [*self._known.get("problems", ()), late]
            found = {**self._known, "status": "degraded", "problems": problems}
        if principal is None:
            return {"status": found["status"]}
        if principal.scopes & OPERATORS:
            return {**found, "version": __version__}
        return {**_without_reasons(found), "version": __version__}

    def close(self) -> None:
        """End the thread."""
        self._shared.close()


def _without_reasons(facts: Facts) -> dict[str, Any]:
    """Return the states alone: reasons name hosts, paths and what other projects' calls met."""
    champions = facts.get("champions", {})
    told: dict[str, Any] = {"status": facts["status"]}
    told["champions"] = {name: {"state": found["state"]} for name, found in champions.items()}
    for part in ("database", "spool"):
        if part in facts:
            told[part] = {"state": facts[part]["state"]}
    return told
