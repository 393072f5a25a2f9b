"""What composites remember of other requests: how a text was read and routed, and what was found for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from modelyard.control.cache_keys import decision_key, passages_key
from modelyard.control.caches import Caches, Decision
from modelyard.types import Passage, Versions


@dataclass(frozen=True, slots=True)
class Memory:
    """Decisions and passages of what serves at one moment; the caches outlive it, the entries under its number are never asked for again.

    Nothing of a conversation or a caller is in here: what a conversation's history makes of a route comes after it.

    Attributes:
        caches: Where they are kept; nothing is, in caches of no size.
        generation: Number of what serves: champions, catalogue and index are the same wherever it is.
    """

    caches: Caches = field(default_factory=lambda: Caches.sized(0.0))
    generation: int = 0

    def decision_key(self, subject: str, tokens: int, needs: Collection[str], versions: Versions) -> bytes:
        """Return the key of a decision: what is read of a message, how long it is, what it needs, and who decides."""
        return decision_key(subject, tokens, needs, versions, generation=self.generation)

    def decision(self, key: bytes) -> Decision | None:
        """Return what was decided before."""
        return self.caches.decisions.get(key)

    def keep_decision(self, key: bytes, decision: Decision) -> None:
        """Keep a decision, unless it was drawn at random."""
        self.caches.keep_decision(key, decision)

    def passages(self, index_version: str, query: str, k: int) -> tuple[Passage, ...] | None:
        """Return what was found before."""
        return self.caches.passages.get(passages_key(index_version, query, k))

    def keep_passages(self, index_version: str, query: str, k: int, found: tuple[Passage, ...]) -> None:
        """Keep what was found."""
        self.caches.passages.put(passages_key(index_version, query, k), found)
