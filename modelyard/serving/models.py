"""The seam between the HTTP app and the composites it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from modelyard.types import Answer, Message, Route, Task


class Plan(Protocol):
    """What a composite would do with a message: how it reads it and where it sends it."""

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def route(self) -> Route: ...  # noqa: D102


class Model(Protocol):
    """A composite model, as far as serving needs it."""

    @property
    def name(self) -> str:
        """What an application asks for."""
        ...

    def plan(self, message: Message) -> Plan:
        """Read and route a message without answering it."""
        ...

    async def answer(self, message: Message) -> Answer:
        """Answer a message.

        Raises:
            GenerationError: No base model gave a usable draft.
        """
        ...

    def stream(self, message: Message) -> AsyncIterator[str | Answer]:
        """Yield pieces of text as they come and the whole `Answer` last.

        Raises:
            GenerationError: No base model gave a usable draft, or it broke off.
        """
        ...


class Models(Protocol):
    """Everything that can be asked for by name."""

    @property
    def names(self) -> Mapping[str, str]:
        """Every name that is served, with its kind: `composite` or `base`."""
        ...

    def get(self, name: str) -> Model:
        """Return a model, loading it where need be; may block for seconds the first time.

        Raises:
            UnknownModel: Nothing of that name is served.
        """
        ...

    def champions(self) -> Mapping[str, Mapping[str, str]]:
        """Say for each component whether its champion is `ok`, `none` or `broken` (`state`), and more (`detail`)."""
        ...

    async def close(self) -> None:
        """Close what the models hold open."""
        ...
