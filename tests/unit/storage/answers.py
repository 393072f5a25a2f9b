"""Answers for the storage tests."""

from __future__ import annotations

from dataclasses import replace

from modelyard.types import (
    Answer,
    Candidate,
    Message,
    Passage,
    Route,
    StepReport,
    Task,
    Usage,
    Versions,
    new_id,
)

MESSAGE = Message.of("How do I centre a div?")


def answer(model: str = "local-md", *, passages: tuple[Passage, ...] = (), cost_usd: float = 0.00008) -> Answer:
    return Answer(
        id=new_id("ans"),
        text="Use flexbox.",
        task=Task("css", "simple", {"css": 0.9, "react": 0.1}, {"simple": 1.0}, tokens=6, classifier="rules"),
        route=Route(model, (Candidate(model, 0.7, cost_usd),), "static", ("it is the only one",)),
        passages=passages,
        usage=Usage(prompt_tokens=100, completion_tokens=20, cost_usd=cost_usd),
        steps=(StepReport("generate", "ran", "drafted", 1.5),),
        versions=Versions("auto", "rules", "static"),
    )


def passage(*, cited: bool) -> Passage:
    return Passage("docs/css.md", "CSS", "Use flexbox.", 0, 12, 1.5, cited=cited)


def with_step(found: Answer, status: str) -> Answer:
    return replace(found, steps=(*found.steps, StepReport("postprocess", status, "because", 0.1)))  # type: ignore[arg-type]
