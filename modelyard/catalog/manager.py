"""The catalogue while everything runs: read anew, changed, and kept whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelyard.catalog.building import Entries, build
from modelyard.catalog.changes import Kind, Patch, Registration, Removal, Request, Reset
from modelyard.catalog.guard import Guard
from modelyard.catalog.loading import read_entries
from modelyard.catalog.overlay import Change, EntryKind, Key, overlaid
from modelyard.catalog.records import Catalog
from modelyard.catalog.store import ChangeStore
from modelyard.errors import InvalidSetting, UnknownModel
from modelyard.storage.database import Database, StorageError

log = logging.getLogger("modelyard.catalog")

UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalogue and its number; both never change."""

    catalog: Catalog
    revision: int


class ModelManager:
    """Holds the catalogue: the files' entries with stored changes over them; safe to share between threads.

    A change is checked against the whole catalogue, stored, and only then takes effect; where a step fails, nothing has changed. Whoever
    works with a catalogue keeps the one that it began with: a change makes a new one.

    Where the database cannot be read at the start, the files alone serve, `problem` says so, and `refresh` makes up for it.

    Args:
        path: A user's TOML file over the shipped one; None: the shipped one alone.
        database: Where changes are kept, migrated; without one they last as long as this object.
        key_variables: What changes may name as `api_key_env` beside what the files name; see `Guard`.

    Raises:
        InvalidSetting: The files are not valid, alone or with the stored changes over them.
    """

    def __init__(
        self, path: Path | None = None, database: Database | None = None, *, key_variables: Iterable[str] = ()
    ) -> None:
        self._path, self._guard = path, Guard(tuple(key_variables))
        self._store = None if database is None else ChangeStore(database)
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._base = read_entries(path)
        self._changes: dict[Key, Change] = {}
        self._stored: int | None = None  # the revision in the database that was read last
        try:
            changes, stored = self._read()
        except StorageError as error:
            self._unreadable(error)
            changes, stored = {}, None
        self._now = Snapshot(_stored_build(self._base, changes), stored or 0)
        self._changes, self._stored = changes, stored
        _say(self._now.catalog.notices)

    @property
    def now(self) -> Snapshot:
        """The catalogue together with its number."""
        return self._now

    @property
    def catalog(self) -> Catalog:
        """The catalogue as it is now."""
        return self._now.catalog

    @property
    def revision(self) -> int:
        """Number of the catalogue in this process; every change that takes effect here raises it."""
        return self._now.revision

    @property
    def problem(self) -> str | None:
        """Why stored changes could not be read, or None where they were."""
        return self._problem

    def reload(self) -> bool:
        """Read files and stored changes anew, and return whether the catalogue is another one now; where that fails, the old one stays.

        Raises:
            InvalidSetting: They are not valid.
            StorageError: The database failed.
        """
        with self._lock:
            base = read_entries(self._path)
            changes, stored = self._read()
            return self._take(base, changes, stored)

    def refresh(self) -> bool:
        """Take over what other processes have stored since, and return whether the catalogue is another one now.

        Raises:
            InvalidSetting: It is not valid with this process' files; the old catalogue stays.
            StorageError: The database failed; the old catalogue stays, and `problem` says so.
        """
        if self._store is None:
            return False
        with self._lock:
            try:
                if self._store.revision() == self._stored:
                    self._problem = None
                    return False
                changes, stored = self._read()
            except StorageError as error:
                self._unreadable(error)
                raise
            return self._take(self._base, changes, stored)

    def register_model(self, name: str, fields: Mapping[str, Any], *, by: str = UNKNOWN) -> None:
        """Add a base model, with the fields of its TOML table.

        Raises:
            InvalidSetting: There is one of that name, or the catalogue would not be valid with it.
            StorageError: The database failed.
        """
        self._change(f"register the model {name!r}", Registration("model", name, fields), by)

    def register_composite(self, name: str, fields: Mapping[str, Any], *, by: str = UNKNOWN) -> None:
        """Add a composite, with the fields of its TOML table.

        Raises:
            InvalidSetting: There is one of that name, or the catalogue would not be valid with it.
            StorageError: The database failed.
        """
        self._change(f"register the composite {name!r}", Registration("composite", name, fields), by)

    def update(self, kind: Kind, name: str, changes: Mapping[str, Any], *, by: str = UNKNOWN) -> None:
        """Change fields of an entry; tables are merged, and None takes a field back to what it is without being named.

        Raises:
            UnknownModel: There is none of that name.
            InvalidSetting: The catalogue would not be valid with it.
            StorageError: The database failed.
        """
        self._change(f"change the {kind} {name!r}", Patch(kind, name, changes), by)

    def enable(self, kind: Kind, name: str, *, by: str = UNKNOWN) -> None:
        """Switch an entry on; raises as `update` does."""
        self._change(f"switch the {kind} {name!r} on", Patch(kind, name, {"enabled": True}), by)

    def disable(self, kind: Kind, name: str, *, by: str = UNKNOWN) -> None:
        """Switch an entry off; raises as `update` does, also where a composite would lose its last candidate."""
        self._change(f"switch the {kind} {name!r} off", Patch(kind, name, {"enabled": False}), by)

    def remove(self, kind: Kind, name: str, *, by: str = UNKNOWN) -> None:
        """Take an entry out of the catalogue, also one that stands in a file; raises as `update` does, also where it is needed."""
        self._change(f"remove the {kind} {name!r}", Removal(kind, name), by)

    def reset(self, kind: EntryKind, name: str, *, by: str = UNKNOWN) -> None:
        """Take all changes of a model or composite back, so that it is as the files say; one that they do not have is gone.

        Raises:
            UnknownModel: Nothing of that name was ever changed.
            InvalidSetting: The catalogue would not be valid.
            StorageError: The database failed.
        """
        self._change(f"reset the {kind} {name!r}", Reset(kind, name), by)

    def _change(self, what: str, ask: Request, by: str) -> None:
        """Check a change, store it and put it into effect."""
        with self._lock:
            try:
                if self._store is None:
                    change, catalog = self._checked(ask, self._changes)
                    changes, stored = {**self._changes, change.key: change}, None
                else:
                    with self._store.changing() as inside:
                        change, catalog = self._checked(ask, inside.changes)
                        inside.put(change, enabled=_enabled(catalog, change), by=by)
                    changes, stored = inside.changes, inside.revision
            except UnknownModel:
                raise
            except InvalidSetting as error:
                raise InvalidSetting(f"Cannot {what}: {str(error).rstrip('.')}.") from None
            self._swap(catalog, self._base, changes, stored)

    def _checked(self, ask: Request, changes: Mapping[Key, Change]) -> tuple[Change, Catalog]:
        before, _ = overlaid(self._base, changes.values())
        change = ask.change(before, changes)
        after, notices = overlaid(self._base, {**changes, change.key: change}.values())
        catalog = build(after, notices)
        self._guard.check(ask, self._base, before, after)
        return change, catalog

    def _read(self) -> tuple[dict[Key, Change], int | None]:
        return (self._changes, None) if self._store is None else self._store.read()

    def _take(self, base: Entries, changes: dict[Key, Change], stored: int | None) -> bool:
        before = self._now
        self._swap(_stored_build(base, changes), base, changes, stored)
        return self._now is not before

    def _swap(self, catalog: Catalog, base: Entries, changes: dict[Key, Change], stored: int | None) -> None:
        self._base, self._changes, self._stored, self._problem = base, changes, stored, None
        if catalog != self._now.catalog:
            _say(notice for notice in catalog.notices if notice not in self._now.catalog.notices)
            self._now = Snapshot(catalog, max(self._now.revision + 1, stored or 0))

    def _unreadable(self, error: StorageError) -> None:
        if self._problem is None:
            log.warning("Stored changes of the catalogue cannot be read: %s", error)
        self._problem = f"Stored changes of the catalogue cannot be read: {error}"


def _stored_build(base: Entries, changes: Mapping[Key, Change]) -> Catalog:
    entries, notices = overlaid(base, changes.values())
    try:
        return build(entries, notices)
    except InvalidSetting as error:
        if not changes:
            raise
        raise InvalidSetting(
            f"The catalogue's files and the stored changes over them are not valid together: {error}"
        ) from None


def _enabled(catalog: Catalog, change: Change) -> bool:
    found = (catalog.models if change.kind == "model" else catalog.composites).get(change.name)
    return found is not None and found.enabled


def _say(notices: Iterable[str]) -> None:
    for notice in notices:
        log.warning("%s", notice)
