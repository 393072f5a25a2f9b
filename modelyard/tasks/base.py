"""The seam that every task classifier stands behind."""

from __future__ import annotations

from typing import Protocol

from modelyard.types import Message, Task


class Classifier(Protocol):
    """Reads a message and says what task it is."""

    @property
    def version(self) -> str:
        """Names this classifier in every answer it had a part in."""
        ...

    def classify(self, message: Message) -> Task:
        """Return the task of what is read of the message (`modelyard.tasks.reading`); never fails on any text, the empty one included."""
        ...
