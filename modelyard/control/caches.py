"""Caches of this process: bounded in entries, bytes and age, and honest about their hit rates.

Keys come from `modelyard.control.cache_keys`, which names everything that a value depends on: an entry is never wrong, only unused. What
a new catalogue, champion or index made useless is never asked for again and leaves as the oldest.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from modelyard.errors import InvalidSetting
from modelyard.types import Answer, Passage, Route, Task

ENTRY_BYTES: Final = 400  # what an entry costs besides its value: the key, two dictionary slots, the record
SMALLEST: Final = 500  # bytes of the smallest entries; bounds how many can be held
STEP_BYTES: Final = 4096  # task, route and step reports of an answer, roughly

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did since the start; `bytes` is an estimate of what it holds now."""

    name: str
    hits: int
    misses: int
    entries: int
    bytes: int
    evicted: int
    expired: int
    refused: int

    @property
    def hit_rate(self) -> float | None:
        """Share of look-ups that found something, 0..1; None before the first look-up."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    def to_json(self) -> dict[str, Any]:
        """Return every number and the hit rate, JSON-ready."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        return counts | {"hit_rate": self.hit_rate}


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    size: int
    until: float


class Cache(Generic[Value]):
    """A cache that forgets what was not used for longest; safe to share between threads.

    Args:
        name: For statistics and metrics.
        entries: Most entries it holds; 0 switches it off.
        size: Most bytes it holds, by the estimate of `size_of`; a value that alone is larger is refused, and counted.
        ttl_s: How long an entry lives, unless `put` says otherwise.
        size_of: Bytes of a value, roughly.
        clock: Seconds that never run backwards.

    Raises:
        InvalidSetting: A bound is negative, or the TTL not positive.
    """

    def __init__(
        self,
        name: str,
        *,
        entries: int,
        size: int,
        ttl_s: float,
        size_of: Callable[[Value], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if entries < 0 or size < 0 or not ttl_s > 0:
            raise InvalidSetting(
                f"The cache {name!r} needs entries ≥ 0, size ≥ 0 and ttl_s > 0, but got {entries}, {size} and {ttl_s:g}."
            )
        self.name = name
        self._entries, self._size, self._ttl_s = entries, size, ttl_s
        self._size_of, self._clock = size_of, clock
        self._held: OrderedDict[bytes, _Entry[Value]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = self._hits = self._misses = self._evicted = self._expired = self._refused = 0

    def get(self, key: bytes) -> Value | None:
        """Return the value, or None where there is none or it is too old."""
        with self._lock:
            entry = self._held.get(key)
            if entry is not None and entry.until <= self._clock():
                self._remove(key)
                self._expired += 1
                entry = None
            if entry is None:
                self._misses += 1
                return None
            self._held.move_to_end(key)
            self._hits += 1
            return entry.value

    def put(self, key: bytes, value: Value, *, ttl_s: float | None = None) -> None:
        """Keep a value, in the place of an older one of that key; what was not used for longest goes where room is needed."""
        if not self._entries:
            return
        size = self._size_of(value) + ENTRY_BYTES
        until = self._clock() + (self._ttl_s if ttl_s is None else ttl_s)
        with self._lock:
            if key in self._held:
                self._remove(key)
            if size > self._size:
                self._refused += 1
                return
            self._held[key] = _Entry(value, size, until)
            self._bytes += size
            while len(self._held) > self._entries or self._bytes > self._size:
                self._remove(next(iter(self._held)))
                self._evicted += 1

    def drop(self, key: bytes) -> None:
        """Forget one entry, where there is one."""
        with self._lock:
            if key in self._held:
                self._remove(key)

    def clear(self) -> None:
        """Forget everything; the counts stay."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def stats(self) -> CacheStats:
        """Return the counts since the start, and what is held now."""
        with self._lock:
            return CacheStats(
                name=self.name,
                hits=self._hits,
                misses=self._misses,
                entries=len(self._held),
                bytes=self._bytes,
                evicted=self._evicted,
                expired=self._expired,
                refused=self._refused,
            )

    def _remove(self, key: bytes) -> None:
        self._bytes -= self._held.pop(key).size


@dataclass(frozen=True, slots=True)
class Decision:
    """How a message was read and where it goes."""

    task: Task
    route: Route

    @property
    def repeatable(self) -> bool:
        """Whether the same message would always be routed so; an exploring policy must be asked again each time."""
        return self.route.propensity == 1.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """One input's entry of an embeddings response: a list of floats or base64, as the parameters asked, and its tokens."""

    vector: list[float] | str
    tokens: int


@dataclass(frozen=True, slots=True)
class Caches:
    """Every cache of a serving process.

    Attributes:
        answers: Whole answers; put with the composite's own TTL, only where the composite asks for it.
        decisions: Task and route of a conversation.
        embeddings: By input, one deployment's model and its parameters.
        passages: What retrieval found.
    """

    answers: Cache[Answer]
    decisions: Cache[Decision]
    embeddings: Cache[Embedding]
    passages: Cache[tuple[Passage, ...]]

    @classmethod
    def sized(cls, megabytes: float = 256.0, *, ttl_s: float = 3600.0) -> Caches:
        """Return caches that together hold at most so many megabytes (10^6 bytes), by their estimates.

        Raises:
            InvalidSetting: The size is negative, or the TTL not positive.
        """
        total = int(megabytes * 1e6)

        def made(name: str, share: float, size_of: Callable[[Value], int]) -> Cache[Value]:
            size = int(total * share)
            return Cache(name, entries=size // SMALLEST, size=size, ttl_s=ttl_s, size_of=size_of)

        return cls(
            answers=made("answers", 0.4, answer_size),
            decisions=made("decisions", 0.2, _decision_size),
            embeddings=made("embeddings", 0.2, embedding_size),
            passages=made("passages", 0.2, passages_size),
        )

    def keep_decision(self, key: bytes, decision: Decision) -> None:
        """Keep a decision, unless it was an exploration: kept, it would be served for ever instead of drawn anew."""
        if decision.repeatable:
            self.decisions.put(key, decision)

    def stats(self) -> tuple[CacheStats, ...]:
        """Return the statistics of each."""
        return tuple(cache.stats() for cache in (self.answers, self.decisions, self.embeddings, self.passages))

    def clear(self) -> None:
        """Forget everything in all of them."""
        for cache in (self.answers, self.decisions, self.embeddings, self.passages):
            cache.clear()


def answer_size(answer: Answer) -> int:
    """Estimate an answer's bytes: its texts, and a fixed amount for its reports."""
    others = sum(len(str(found)) for found in (answer.fields, answer.extras) if found)
    return STEP_BYTES + 2 * (len(answer.text) + others) + passages_size(answer.passages)


def _decision_size(_: Decision) -> int:
    return STEP_BYTES


def embedding_size(embedding: Embedding) -> int:
    """Estimate an embedding's bytes: a Python float in a list takes 32."""
    return len(embedding.vector) * (1 if isinstance(embedding.vector, str) else 32)


def passages_size(passages: tuple[Passage, ...]) -> int:
    """Estimate the bytes of passages: their texts, and what a record takes."""
    return sum(2 * len(passage.text) + 300 for passage in passages)
