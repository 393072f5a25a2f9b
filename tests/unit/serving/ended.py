"""Requests that have ended, to report on."""

from __future__ import annotations

from dataclasses import replace

from modelyard.composite import Plan
from modelyard.errors import UpstreamError
from modelyard.types import (
    Answer,
    Attempt,
    Candidate,
    Message,
    Passage,
    Route,
    StepReport,
    Task,
    Turn,
    Usage,
    Versions,
)

PROMPT = "Why is my form slow? I am ada@example.org and my key is sk-proj-abcdefgh12345678."
TEXT = "Because it renders again at each key press."
TASK = Task("forms", "simple", {"forms": 0.9, "css": 0.1}, {"simple": 1.0}, 20, "classifier-2")
ROUTE = Route("sm", (Candidate("sm", 0.8, 0.001), Candidate("lg", 0.9, 0.02)), "router-5", ("sm is cheaper",), 0.8)
STEPS = (
    StepReport("classify", "ran", "forms, simple", 1.0),
    StepReport("route", "ran", "sm is cheaper", 2.0),
    StepReport("retrieve", "ran", "1 passages", 3.0),
)
FAILED = Attempt("sm", "sm/one", "failed", f"server: the upstream says {PROMPT}", 10.0, 503, Usage(20, 0, 0.0001))
GOOD = Attempt("lg", "lg/two", "ok", "fell back", 20.0, 200, Usage(20, 9, 0.002, estimated=False, cached_tokens=8))


def message(prompt: str = PROMPT) -> Message:
    return Message(
        (Turn("system", "Be brief."), Turn("user", prompt)), parameters={"temperature": 0.2, "max_tokens": 50}
    )


def answer(asked: Message, attempts: tuple[Attempt, ...] = (FAILED, GOOD)) -> Answer:
    steps = (*STEPS, StepReport("generate", "partial", f"after 1 failed call ({FAILED.reason})", 40.0))
    usage = attempts[-1].usage
    assert usage is not None
    return Answer(
        id=asked.id,
        text=TEXT,
        task=TASK,
        route=ROUTE,
        passages=(Passage("forms.md", "Forms", "Use refs.", 0, 9, 0.7),),
        usage=usage,
        steps=(*steps, StepReport("post-process", "ran", "0 of 1 sources cited", 1.0)),
        versions=Versions("auto", "classifier-2", "router-5"),
        model=attempts[-1].model,
        attempts=attempts,
    )


def plan() -> Plan:
    return Plan(TASK, ROUTE, (), STEPS)


def upstream_error() -> UpstreamError:
    return UpstreamError(f"Nobody answers {PROMPT}", kind="timeout", status=504)


def attempts_in_vain() -> tuple[Attempt, ...]:
    return (
        FAILED,
        replace(FAILED, model="lg", deployment="lg/two", reason="timeout: too slow", status=None, usage=None),
    )
