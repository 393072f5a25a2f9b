"""The seam between a composite and whatever drafts its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from modelyard.types import Delta, Draft, Message, Passage


class Generator(Protocol):
    """A base model that drafts answers."""

    @property
    def name(self) -> str:
        """The catalogue's name of the model."""
        ...

    async def generate(self, message: Message, passages: Sequence[Passage]) -> Draft:
        """Draft an answer that leans on the passages where they help.

        Raises:
            GenerationError: There is no usable draft.
        """
        ...

    def stream(self, message: Message, passages: Sequence[Passage]) -> AsyncIterator[Delta | Draft]:
        """Yield pieces as they come and the whole `Draft` last; the pieces' texts joined are the draft's text.

        Raises:
            GenerationError: There is no usable draft, or it broke off.
        """
        ...
