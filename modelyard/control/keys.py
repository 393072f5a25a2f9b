"""The key ring: makes API keys, rotates and revokes them, and tells whose key came with a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from modelyard.control import key_store
from modelyard.control.credentials import bearer
from modelyard.control.key_checks import KeyChecks, KeyStats
from modelyard.control.key_store import KeyFacts
from modelyard.control.principals import ANONYMOUS, SCOPES, Principal, Scope
from modelyard.storage.database import Database, StorageError

__all__ = ["ANONYMOUS", "SCOPES", "KeyFacts", "KeyRing", "KeyStats", "Principal", "Scope", "bearer"]


class KeyRing:
    """The API keys of a database.

    Args:
        database: Where they are stored.
        clock: Unix time in seconds.
        ttl_s: How soon a revocation made elsewhere works here.
        stale_s: How much longer a key that was used lately stays good while the database cannot be read; 0 refuses at once.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        *,
        ttl_s: float = 60.0,
        stale_s: float = 300.0,
    ) -> None:
        self._database, self._clock = database, clock
        self._checks = KeyChecks(database, clock, ttl_s, stale_s)

    @property
    def problem(self) -> str | None:
        """Why keys cannot be read, or None."""
        return self._checks.problem

    def stats(self) -> KeyStats:
        """Return what became of keys since the start."""
        return self._checks.stats()

    async def authenticate(self, plaintext: str) -> Principal:
        """Return whose key this is.

        Raises:
            Unauthenticated: It is no key, not a valid one, has expired or was revoked.
            LimitExceeded: Too many keys that were never seen are being checked (capacity).
            StorageError: The database failed, and the key was not proven lately.
        """
        return await self._checks.authenticate(plaintext)

    def create(
        self,
        project: str,
        name: str,
        scopes: Iterable[str],
        *,
        model_types: Iterable[str] | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[Principal, str]:
        """Make a key in a project, by id or name (made where there is none), and return it with its plaintext, which is shown only now.

        Raises:
            InvalidInput: A name, a scope or the expiry breaks a rule.
            StorageError: The database failed; nothing was stored.
        """
        facts, plaintext = key_store.add_key(
            self._database, project, name, scopes, model_types=model_types, expires_at=expires_at, at=self._now()
        )
        return facts.principal, plaintext

    def rotate(self, key: str, *, grace_s: float = 0.0) -> tuple[Principal, str]:
        """Give a key, by id or prefix, a new secret under the same id, and return it; the old secret stays valid for `grace_s` seconds.

        Raises:
            InvalidInput: There is no such key, it has ended, or the grace is not within 0 s and 90 days.
            StorageError: The database failed; nothing was changed.
        """
        facts, plaintext = key_store.rotate_key(self._database, key, grace_s=grace_s, at=self._now())
        self._checks.forget()
        return facts.principal, plaintext

    def revoke(self, key: str) -> None:
        """End a key, by id or prefix, with all its older secrets: at once in this process, within the TTL in others.

        Raises:
            InvalidInput: There is no such key.
            StorageError: The database failed; nothing was changed.
        """
        key_store.revoke_key(self._database, key, at=self._now())
        self._checks.forget()

    def list(self, project: str | None = None) -> tuple[KeyFacts, ...]:
        """Return the keys of a project, by id or name, or of all, oldest first.

        Raises:
            StorageError: The database failed.
        """
        return key_store.find_keys(self._database, project=project)

    def forget(self) -> None:
        """Read every key's row again at its next use, as after the deletion of a project."""
        self._checks.forget()

    def save_last_used(self) -> int:
        """Store when keys were last used, to the TTL, and return how many rows that was; for a background job.

        Raises:
            StorageError: The database failed; it is tried again the next time.
        """
        used = self._checks.take_used()
        try:
            if used:
                moments = {key: datetime.fromtimestamp(at, UTC) for key, at in used.items()}
                key_store.mark_used(self._database, moments)
        except StorageError:
            self._checks.give_back_used(used)
            raise
        return len(used)

    def close(self) -> None:
        """End the threads."""
        self._checks.close()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
