"""What of a conversation is read: its last user turn, and those before it that it leans on.

"Thanks, go on" or "and in TypeScript?" name no task: they say how to go on with one. A turn leans if, after its courtesies, nothing is
left, it opens like a continuation, its first words point back, or it is short and names no subject of the lexicon. Then the user turns
before it are read too, newest first, until one stands by itself. Answers are not read: classifiers and routers have learned from what
people ask, and an answer holds what a model made of it.

A message with one user turn reads as that turn, whatever it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.embedding.tokens import clip
from modelyard.tasks.leaning import TERSE_CHARS, leans
from modelyard.types import Message

HISTORY_CHARS: Final = 2_000  # of earlier turns; the last one is read whole


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a conversation; in a message with one user turn, that turn.

    Attributes:
        subject: What the task is read from, and what the router predicts scores for: the turn that stands by itself, and what was asked
            since at more length than "and in TypeScript?".
        text: What is searched for: every turn that was read, the last one included.
        earlier: User turns before the last one that were read.
    """

    subject: str
    text: str
    earlier: int = 0

    @property
    def reason(self) -> str | None:
        """Say that earlier turns had a part in it; None where they had none."""
        if not self.earlier:
            return None
        turns = "user turn" if self.earlier == 1 else f"{self.earlier} user turns"
        return f"the last turn leans on what was said before: it was read with the {turns} before it"


def read(message: Message) -> Reading:
    """Return what is read of a message."""
    if len(message.turns) == 1:
        return Reading(message.prompt, message.prompt)
    texts = (turn.text for turn in reversed(message.turns) if turn.role == "user")
    last = next(texts, "")
    taken, left = [last], HISTORY_CHARS
    while leans(last) and left > 0:
        last = next(texts, None)
        if last is None:
            break
        taken.append(clip(last, left))
        left -= len(taken[-1])
    taken.reverse()
    asked = (taken[0], *(text for text in taken[1:] if len(text) >= TERSE_CHARS))
    return Reading("\n".join(asked), "\n".join(taken), len(taken) - 1)
