from __future__ import annotations

import threading
from typing import Any

from modelyard.control.principals import ANONYMOUS, Principal
from modelyard.serving.health import Checkup

FACTS: dict[str, Any] = {
    "status": "ok",
    "champions": {"router": {"state": "ok", "detail": "version 3"}},
    "database": {"state": "failed", "reason": "The database postgresql://db.example failed."},
    "spool": {"state": "ok", "lost": 0},
    "problems": ["Redis at cache.example is gone."],
    "deployments": {"far": {"breaker": "closed"}},
}
CHAT = Principal("key-1", "shop", "chat", frozenset({"chat"}))
ANALYST = Principal("key-2", "shop", "analyst", frozenset({"analytics"}))


async def test_reasons_and_deployments_are_for_operators():
    checkup = Checkup(lambda: FACTS)
    assert await checkup.facts(None) == {"status": "ok"}
    told = await checkup.facts(CHAT)
    assert told.keys() == {"status", "version", "champions", "database", "spool"}
    assert "example" not in str(told)
    for operator in (ANALYST, ANONYMOUS):
        assert (await checkup.facts(operator)).items() >= FACTS.items()
    checkup.close()


async def test_health_answers_while_a_look_hangs_and_says_so():
    gate, first = threading.Event(), threading.Event()

    def look() -> dict[str, Any]:
        if first.is_set():
            gate.wait()
        first.set()
        return FACTS

    checkup = Checkup(look, lasts_s=0.0, longest_s=0.05)
    try:
        assert (await checkup.facts(ANALYST))["status"] == "ok"
        late = await checkup.facts(ANALYST)
        assert (late["status"], late["deployments"]) == ("degraded", FACTS["deployments"])
        assert "has not come back within 0.05 s" in late["problems"][-1]
        assert await checkup.facts(None) == {"status": "degraded"}
    finally:
        gate.set()
        checkup.close()
