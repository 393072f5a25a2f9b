"""The rows of API keys.

A row's id names the key for good. Rotating gives that row a new prefix and hash; the old ones move to a row of their own that ends after
the grace and says by `replaced_by` whose they were. Quotas, usage and spending, which go by the id, do not start again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from modelyard.control.credentials import new_key, prefix_of, stored_hash
from modelyard.control.principals import Principal, checked_name, checked_scopes, known_scopes
from modelyard.errors import InvalidInput
from modelyard.storage.database import Database
from modelyard.storage.tables import ApiKey, Project, ordered_id

LONGEST_GRACE_S: Final = 90 * 86_400.0

# What a stranger can make us do, made once. An aggregate gives one row either way: a prefix that exists takes no longer than another.
_HASH: Final = select(func.max(ApiKey.hash)).where(ApiKey.prefix == bindparam("prefix"))


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A stored key without its secret; `project` is the project's name."""

    id: str
    project: str
    project_id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    model_types: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    last_used_at: datetime | None

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(
            self.replaced_by or self.id,
            self.project_id,
            self.name,
            known_scopes(self.scopes),
            None if self.model_types is None else frozenset(self.model_types),
            self.project,
        )

    def ended(self, at: datetime) -> str | None:
        """Say why the key is not valid any more, or None; only who holds the key may be told."""
        if self.revoked_at is not None:
            return f"The API key was revoked on {_moment(self.revoked_at)}."
        if self.expires_at is not None and self.expires_at <= at:
            return f"The API key expired on {_moment(self.expires_at)}."
        return None


def add_key(
    database: Database,
    project: str,
    name: str,
    scopes: Iterable[str],
    *,
    model_types: Iterable[str] | None,
    expires_at: datetime | None,
    at: datetime,
) -> tuple[KeyFacts, str]:
    """Store a new key and return it with its plaintext, which is known nowhere else.

    Raises:
        InvalidInput: A name, scope or the expiry breaks a rule.
        StorageError: The database failed; nothing was stored.
    """
    checked_name("A project's name", project)
    checked_name("A key's name", name)
    allowed = None if model_types is None else sorted({checked_name("A model type", one) for one in model_types})
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= at):
        raise InvalidInput(f"A key must expire in the future, in UTC, but got {expires_at.isoformat()}.")
    plaintext = new_key()
    row = ApiKey(
        id=ordered_id(),
        name=name,
        prefix=prefix_of(plaintext),
        hash=stored_hash(plaintext),
        scopes=sorted(checked_scopes(scopes)),
        model_types=allowed,
        created_at=at,
        expires_at=expires_at,
    )
    with database.write() as session:
        found = _project(session, project)
        row.project_id = found.id
        session.add(row)
        session.flush()
        return _facts(row, found.name), plaintext


def find_keys(database: Database, *, project: str | None = None) -> tuple[KeyFacts, ...]:
    """Return the keys of a project, by its id or name, or of all, oldest first.

    Raises:
        StorageError: The database failed.
    """
    query = _with_project().order_by(ApiKey.created_at, ApiKey.id)
    if project is not None:
        query = query.where(or_(Project.id == project, Project.name == project))
    with database.read() as session:
        return tuple(_facts(row, name) for row, name in session.execute(query))


def read_hash(database: Database, prefix: str) -> str | None:
    """Return what is stored to recognise the key of a prefix by.

    Raises:
        StorageError: The database failed.
    """
    with database.read() as session:
        return session.connection().execute(_HASH, {"prefix": prefix}).scalar_one()


def read_key(database: Database, prefix: str) -> tuple[KeyFacts, str] | None:
    """Return the key of a prefix, and its hash.

    Raises:
        StorageError: The database failed.
    """
    with database.read() as session:
        found = session.execute(_with_project().where(ApiKey.prefix == prefix)).one_or_none()
        return None if found is None else (_facts(found[0], found[1]), found[0].hash)


def rotate_key(database: Database, key: str, *, grace_s: float, at: datetime) -> tuple[KeyFacts, str]:
    """Give a key, by id or prefix, a new secret; the old one stays valid for the grace, in seconds.

    A key that expires gets as long a life as it had at first.

    Raises:
        InvalidInput: There is no such key, it has ended or was itself replaced, or the grace is not within 0 s and 90 days.
        StorageError: The database failed; nothing was changed.
    """
    if not 0 <= grace_s <= LONGEST_GRACE_S:
        raise InvalidInput(f"A grace must be within 0 and {LONGEST_GRACE_S:.0f} seconds, but got {grace_s!r}.")
    plaintext = new_key()
    stored = stored_hash(plaintext)
    with database.write() as session:
        row, project = _one(session, key)
        if row.replaced_by is not None or _facts(row, project).ended(at):
            raise InvalidInput(f"The key {key!r} has ended and cannot be rotated; make a new one.")
        old = _predecessor(row, grace_s, at)
        if row.expires_at is not None:
            row.expires_at = at + (row.expires_at - row.created_at)
        row.prefix, row.hash, row.created_at = prefix_of(plaintext) or "", stored, at
        session.flush()  # before the old prefix comes back in another row
        session.add(old)
        session.flush()
        return _facts(row, project), plaintext


def revoke_key(database: Database, key: str, *, at: datetime) -> None:
    """End a key, by id or prefix, and every older secret of it that was still within its grace. Revoking twice changes nothing.

    Raises:
        InvalidInput: There is no such key.
        StorageError: The database failed; nothing was changed.
    """
    with database.write() as session:
        row, _ = _one(session, key)
        session.execute(
            update(ApiKey)
            .where(or_(ApiKey.id == row.id, ApiKey.replaced_by == row.id), ApiKey.revoked_at.is_(None))
            .values(revoked_at=at)
        )


def mark_used(database: Database, used: Mapping[str, datetime]) -> None:
    """Store when keys, by id, were last used.

    Raises:
        StorageError: The database failed.
    """
    with database.write() as session:
        session.execute(update(ApiKey), [{"id": key, "last_used_at": at} for key, at in sorted(used.items())])


def _predecessor(row: ApiKey, grace_s: float, at: datetime) -> ApiKey:
    ends = at + timedelta(seconds=grace_s)
    return ApiKey(
        id=ordered_id(),
        project_id=row.project_id,
        name=row.name,
        prefix=row.prefix,
        hash=row.hash,
        scopes=row.scopes,
        model_types=row.model_types,
        created_at=row.created_at,
        expires_at=ends if row.expires_at is None else min(ends, row.expires_at),
        revoked_at=None if grace_s else at,
        replaced_by=row.id,
        last_used_at=row.last_used_at,
    )


def _project(session: Session, name: str) -> Project:
    """Return a project by id or name, made where there is none."""
    query = select(Project).where(Project.name == name)
    found = session.get(Project, name) or session.scalars(query).one_or_none()
    if found is None:
        dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
        insert = dialects[session.get_bind().dialect.name].insert(Project)
        session.execute(insert.values(name=name, settings={}).on_conflict_do_nothing())
        found = session.scalars(query).one()
    return found


def _one(session: Session, key: str) -> tuple[ApiKey, str]:
    # Locked (PostgreSQL), so that of two rotations at a time the second sees the first.
    query = _with_project().where(or_(ApiKey.id == key, ApiKey.prefix == key)).with_for_update(of=ApiKey)
    found = session.execute(query).first()
    if found is None:
        raise InvalidInput(f"There is no API key {key[:80]!r}; `modelyard keys list` shows them.")
    return found[0], found[1]


def _with_project() -> Select[ApiKey, str]:
    return select(ApiKey, Project.name).join(Project, Project.id == ApiKey.project_id)


def _facts(row: ApiKey, project: str) -> KeyFacts:
    return KeyFacts(
        row.id,
        project,
        row.project_id,
        row.name,
        row.prefix,
        tuple(row.scopes),
        None if row.model_types is None else tuple(row.model_types),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.replaced_by,
        row.last_used_at,
    )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
