"""A small yard for the serving tests: two composites and a base model that say what they are told to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from modelyard.errors import UnknownModel
from modelyard.types import Answer, Candidate, Message, Route, StepReport, Task, Usage, Versions, new_id


@dataclass(frozen=True)
class Plan:
    task: Task
    route: Route


@dataclass
class Scripted:
    """Says its pieces one by one, and raises `failure` after them."""

    name: str
    pieces: Sequence[str] = ("Use ", "flexbox ", "☂.")
    failure: Exception | None = None
    heard: list[Message] = field(default_factory=list)
    left: bool = False

    def plan(self, message: Message) -> Plan:
        domain = "css" if "div" in message.prompt else "chat"
        task = Task(domain, "simple", {domain: 1.0}, {"simple": 1.0}, len(message.prompt) // 4, "rules")
        candidates = (Candidate("local-sm", 0.4, 0.00001), Candidate("local-md", 0.7, 0.00008))
        return Plan(task, Route("local-md", candidates, "static", ("0.7 > 0.4", "no router — yet")))

    async def answer(self, message: Message) -> Answer:
        *_, last = [piece async for piece in self.stream(message)]
        assert isinstance(last, Answer)
        return last

    async def stream(self, message: Message) -> AsyncIterator[str | Answer]:
        self.heard.append(message)
        plan = self.plan(message)
        try:
            for piece in self.pieces:
                yield piece
            if self.failure is not None:
                raise self.failure
            yield Answer(
                id=new_id("ans"),
                text="".join(self.pieces),
                task=plan.task,
                route=plan.route,
                passages=(),
                usage=Usage(10, 4, 0.00008),
                steps=(StepReport("generate", "ran", "drafted", 1.0),),
                versions=Versions(self.name, "rules", "static"),
                notices=("No router is registered.",),
            )
        finally:
            self.left = True


class Yard:
    def __init__(self, *models: Scripted) -> None:
        self.models = {model.name: model for model in models}
        self.state: Mapping[str, Mapping[str, str]] = {
            "router": {"state": "none", "detail": "no router was promoted yet"}
        }
        self.closed = False

    @property
    def names(self) -> Mapping[str, str]:
        return {name: "base" if name.startswith("local-") else "composite" for name in self.models}

    def get(self, name: str) -> Scripted:
        if name not in self.models:
            raise UnknownModel(f"No model is called {name!r}.")
        return self.models[name]

    def champions(self) -> Mapping[str, Mapping[str, str]]:
        return self.state

    async def close(self) -> None:
        self.closed = True
