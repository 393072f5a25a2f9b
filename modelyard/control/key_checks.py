"""Tells whose key came with a request, and bears strangers.

A key is checked against its argon2 hash once in the life of a process. What was proven is remembered by a keyed digest, and its row is
read again after `ttl_s`: a revocation works at once in the process that made it, and within `ttl_s` in others. While the database is gone,
a key whose row was read within `stale_s` more stays good, and `problem` says so; a key that was never proven here is refused.

Strangers cost little: what is no key at all is told by its looks, a wrong key seen before by the negative cache, any other by one row and
32 bits of its hash, in two threads with a bounded queue and a bounded rate, where proven keys never wait. All wrong keys get the same
sentence after the same work, whether their prefix exists or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from modelyard.control.caches import Cache
from modelyard.control.credentials import looks_like, matches, prefix_of
from modelyard.control.key_store import KeyFacts, read_hash, read_key
from modelyard.control.principals import Principal
from modelyard.errors import LimitExceeded, Unauthenticated
from modelyard.storage.database import Database, StorageError

NOT_VALID: Final = "The API key is not valid."
CHECKERS: Final = 2  # threads that look at unproven keys: at most so many cores, and 19 MiB each
WAITING: Final = 64  # unproven keys that are looked at or wait for it
LOOKS_A_SECOND: Final = 500  # at unproven keys, 0.2 ms of CPU each; as many at once after a rest
CHECK_S: Final = 10.0  # longest wait for that
READ_S: Final = 2.0  # longest wait for the row of a proven key
PROVEN: Final = 10_000
WRONG: Final = 8_192
FOREVER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class _Proven:
    """A key that was checked, and its row as it was read at `read_at`, in seconds, in that generation of this process' changes."""

    facts: KeyFacts
    hash: str
    principal: Principal
    read_at: float
    generation: int


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str


_Verdict = _Proven | _Refused | StorageError


@dataclass(frozen=True, slots=True)
class KeyStats:
    """What became of keys since the start: `proven` are remembered now, `shed` were not looked at because too many strangers waited."""

    proven: int
    refused: int
    shed: int
    waiting: int


class KeyChecks:
    """Checks keys against the rows of a database.

    Args:
        database: Where they are stored.
        clock: Unix time in seconds.
        ttl_s: How long a row counts as read.
        stale_s: How much longer it does while the database cannot be read; 0 refuses at once.
    """

    def __init__(self, database: Database, clock: Callable[[], float], ttl_s: float, stale_s: float) -> None:
        self._database, self._clock, self._ttl_s, self._stale_s = database, clock, ttl_s, stale_s
        self._pepper = secrets.token_bytes(32)  # nobody outside can make digests that meet in a cache
        self._proven: Cache[_Proven] = _cache("proven keys", PROVEN, FOREVER_S, clock)
        self._wrong: Cache[str] = _cache("wrong keys", WRONG, ttl_s, clock)
        self._flights: dict[bytes, Future[_Verdict]] = {}
        self._lock = threading.Lock()
        self._generation = self._waiting = self._refused = self._shed = 0
        self._looks, self._looked_at = float(LOOKS_A_SECOND), clock()
        self._used: dict[str, float] = {}
        self._problem: str | None = None
        self._checkers = ThreadPoolExecutor(CHECKERS, thread_name_prefix="modelyard-keys")
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="modelyard-key-rows")

    @property
    def problem(self) -> str | None:
        """Why rows of keys cannot be read, or None."""
        return self._problem

    def stats(self) -> KeyStats:
        """Return counts since the start, and how many unproven keys wait now."""
        return KeyStats(self._proven.stats().entries, self._refused, self._shed, self._waiting)

    async def authenticate(self, plaintext: str) -> Principal:
        """Return whose key this is; the errors are those of `KeyRing.authenticate`."""
        prefix = prefix_of(plaintext)
        if prefix is None:
            return self._deny(NOT_VALID)
        digest = hashlib.blake2b(plaintext.encode(), key=self._pepper, digest_size=32).digest()
        proven = self._proven.get(digest)
        if proven is not None and self._is_fresh(proven, self._ttl_s):
            return self._admit(proven)
        if proven is not None:
            return self._conclude(await self._read_again(digest, prefix, proven))
        reason = self._wrong.get(digest)
        if reason is not None:
            return self._deny(reason)
        return self._conclude(await self._check(digest, prefix, plaintext))

    def forget(self) -> None:
        """Read every row again at its next use, whatever happens: keys were changed."""
        with self._lock:
            self._generation += 1

    def take_used(self) -> dict[str, float]:
        """Return when which keys were used since the last call, in Unix seconds to the TTL."""
        with self._lock:
            used, self._used = self._used, {}
        return used

    def give_back_used(self, used: Mapping[str, float]) -> None:
        """Return what could not be stored."""
        with self._lock:
            self._used = {**used, **self._used}

    def close(self) -> None:
        """End the threads; keys that wait to be checked are not checked any more."""
        self._checkers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    def _is_fresh(self, proven: _Proven, within_s: float) -> bool:
        # A clock that was set back makes rows old, not young.
        return proven.generation == self._generation and 0 <= self._clock() - proven.read_at < within_s

    def _admit(self, proven: _Proven) -> Principal:
        expires_at = proven.facts.expires_at
        if expires_at is not None and expires_at.timestamp() <= self._clock():
            return self._deny(proven.facts.ended(_moment(self._clock())) or NOT_VALID)
        return proven.principal

    def _deny(self, reason: str) -> Principal:
        self._refused += 1
        raise Unauthenticated(reason)

    def _conclude(self, verdict: _Verdict) -> Principal:
        if isinstance(verdict, _Proven):
            return self._admit(verdict)
        if isinstance(verdict, _Refused):
            return self._deny(verdict.reason)
        raise StorageError(str(verdict))

    async def _check(self, digest: bytes, prefix: str, plaintext: str) -> _Verdict:
        """Look at a key that was never proven; callers with the same one share the look."""
        flight = self._flights.get(digest)
        if flight is None:
            self._enter()
            flight = self._take_off(self._checkers, digest, lambda: self._prove(digest, prefix, plaintext))
            flight.add_done_callback(self._leave)
        return await _landing(flight, CHECK_S)

    async def _read_again(self, digest: bytes, prefix: str, proven: _Proven) -> _Verdict:
        """Read a proven key's row again, or go on without, for a while, where the database is gone."""
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._take_off(self._readers, digest, lambda: self._reread(digest, prefix, proven))
        if self._problem is not None and self._may_stay(proven) and not flight.done():
            return proven  # the database is known to be gone: nobody waits for it
        verdict = await _landing(flight, READ_S)
        if isinstance(verdict, StorageError):
            self._problem = f"API keys are not read again: {verdict}"
            if self._may_stay(proven):
                return proven
        return verdict

    def _may_stay(self, proven: _Proven) -> bool:
        return self._is_fresh(proven, self._ttl_s + self._stale_s)

    def _take_off(self, threads: ThreadPoolExecutor, digest: bytes, look: Callable[[], _Verdict]) -> Future[_Verdict]:
        flight = threads.submit(look)
        self._flights[digest] = flight
        flight.add_done_callback(lambda _: self._flights.pop(digest, None))
        return flight

    def _enter(self) -> None:
        """Let an unproven key be looked at, in its turn.

        Raises:
            LimitExceeded: Too many are, or were lately.
        """
        now = self._clock()
        with self._lock:
            self._looks += max(now - self._looked_at, 0.0) * LOOKS_A_SECOND
            self._looks, self._looked_at = min(self._looks, float(LOOKS_A_SECOND)), now
            if self._waiting < WAITING and self._looks >= 1:
                self._waiting += 1
                self._looks -= 1
                return
            self._shed += 1
        raise LimitExceeded("Too many unknown API keys are being checked.", retry_after_s=1.0, kind="capacity")

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._waiting -= 1

    # In threads:

    def _prove(self, digest: bytes, prefix: str, plaintext: str) -> _Verdict:
        try:
            stored = read_hash(self._database, prefix)
            if not looks_like(plaintext, stored) or stored is None or not matches(plaintext, stored):
                return self._refuse(digest, NOT_VALID)
            return self._read(digest, prefix, stored)
        except StorageError as error:
            return error

    def _reread(self, digest: bytes, prefix: str, proven: _Proven) -> _Verdict:
        try:
            return self._read(digest, prefix, proven.hash)
        except StorageError as error:
            return error

    def _read(self, digest: bytes, prefix: str, stored: str) -> _Verdict:
        while True:
            generation, at = self._generation, self._clock()
            found = read_key(self._database, prefix)
            self._problem = None
            if found is None or found[1] != stored:
                return self._refuse(digest, NOT_VALID)
            facts = found[0]
            reason = facts.ended(_moment(at))
            if reason is not None:
                return self._refuse(digest, reason)
            verdict = _Proven(facts, stored, facts.principal, at, generation)
            with self._lock:
                if generation == self._generation:  # else a key was revoked meanwhile, perhaps this one
                    self._proven.put(digest, verdict)
                    self._used[facts.id] = at
                    return verdict

    def _refuse(self, digest: bytes, reason: str) -> _Refused:
        refused = _Refused(reason)
        self._wrong.put(digest, reason)
        proven = self._proven.get(digest)
        if proven is not None:
            self._proven.put(digest, proven, ttl_s=0.0)  # out
        return refused


async def _landing(flight: Future[_Verdict], within_s: float) -> _Verdict:
    """Wait for a look, which goes on for others if this caller goes away."""
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(flight)), within_s)
    except TimeoutError:
        return StorageError(f"The database did not answer within {within_s:g} s.")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _cache(name: str, entries: int, ttl_s: float, clock: Callable[[], float]) -> Cache[Any]:
    return Cache(name, entries=entries, size=entries * 2_000, ttl_s=ttl_s, size_of=lambda _: 600, clock=clock)
