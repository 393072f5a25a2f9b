"""Moves the `champion` alias: register, promote, roll back, and who did what when.

A move takes effect at one point, the atomic replacement of `current.json`, and that comes last: whatever breaks before it, or a process
that dies, leaves the old champion serving. What was done before that point is undone where the process still can; where it cannot, the
next move puts the alias right. A row of the history whose move never took effect stays, and says so.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from modelyard.errors import CorruptModel, PromotionRefused, RegistryError
from modelyard.registry import champions
from modelyard.registry.champions import Current, component_of
from modelyard.registry.gate import check_gate
from modelyard.registry.mlflow_store import MlflowStore, ModelStore
from modelyard.registry.verdict import Verdict
from modelyard.registry.versions import corrupt
from modelyard.settings import Settings

if TYPE_CHECKING:
    from modelyard.storage import AliasMove, Database

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
LOCK_TIMEOUT_S: Final = 30.0

Action = Literal["promote", "rollback", "bootstrap"]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A row of the history: the move, and whether it took effect."""

    move: AliasMove
    took_effect: bool


def register(
    component: str, folder: Path, *, run_id: str | None, settings: Settings, about: Mapping[str, Any] | None = None
) -> str:
    """Register a saved model, make it the challenger, and return its version.

    Args:
        component: `classifier` or `router`.
        folder: The saved model, as `modelyard.predictors.write_artifact` wrote it.
        run_id: The MLflow run that made it, or None.
        settings: Where the registry is.
        about: Facts for people, kept as tags of the version.

    Raises:
        CorruptModel: The folder is not what its manifest says.
    """
    store = MlflowStore(settings)
    version = store.register(component_of(component), folder, run_id, about or {})
    store.set_alias(component, CHALLENGER, version)
    return version


def promote(
    component: str, version: str, *, who: str, reason: str, verdict: Verdict, settings: Settings
) -> HistoryEntry:
    """Make a version the champion, if the gate lets it.

    Raises:
        PromotionRefused: The gate said no.
        CorruptModel: The registered model differs from its manifest or from what was registered.
        RegistryError: There is no such version.
    """
    component = component_of(component)
    with locked(component, settings):
        current = champions.read_current(component, settings)
        check_gate(verdict, component, version, current.version if current else None)
        store = open_store(settings)
        runs = (store.run_of(component, version), verdict.run_id)
        move = _move(component, current, version, "promote" if current else "bootstrap", who, reason)
        move = replace(move, run_ids=tuple(dict.fromkeys(r for r in runs if r)), verdict=verdict.to_json())
        before = (*current.before, current.version) if current else ()
        return _switch(_Plan(component, current, before, move), store, settings)


def rollback(component: str, *, who: str, reason: str, settings: Settings) -> HistoryEntry:
    """Make the version before the champion the champion again; each further rollback goes further back.

    Raises:
        PromotionRefused: No version was champion before.
        CorruptModel: The version before is damaged, here and in the registry.
    """
    component = component_of(component)
    with locked(component, settings):
        current = champions.read_current(component, settings)
        if current is None:
            raise PromotionRefused(f"Cannot roll back the {component}: nothing was promoted yet.")
        earlier = [version for version in current.before if version != current.version]
        if not earlier:
            raise PromotionRefused(
                f"Cannot roll back the {component}: no version was champion before version {current.version}."
            )
        move = _move(component, current, earlier[-1], "rollback", who, reason)
        return _switch(_Plan(component, current, tuple(earlier[:-1]), move), open_store(settings), settings)


def history(component: str | None, settings: Settings) -> tuple[HistoryEntry, ...]:
    """Return the moves of a component's champion, or of all components', newest first."""
    from modelyard.storage import alias_moves

    with _database(settings) as database:
        moves = alias_moves(database, component and component_of(component), CHAMPION)
    effective = {name: _effective(name, settings) for name in champions.COMPONENTS}
    return tuple(HistoryEntry(move, move.number in effective.get(move.component, frozenset())) for move in moves)


def open_store(settings: Settings) -> ModelStore:
    """Return the model registry."""
    return MlflowStore(settings)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A move about to be made: what serves now, what a later rollback returns to, and the history's row."""

    component: str
    current: Current | None
    before: tuple[str, ...]
    move: AliasMove


def _switch(plan: _Plan, store: ModelStore, settings: Settings) -> HistoryEntry:
    """Verify and copy the files, write the history, set the alias, and last of all replace `current.json`."""
    component, current, version = plan.component, plan.current, plan.move.to_version
    with ExitStack() as undo:
        sha256 = _install(plan, store, settings, undo)
        number = record(plan.move, settings)
        alias = current.version if current else store.alias(component, CHAMPION)
        _on_failure(undo, "the alias could not be set back", lambda: store.set_alias(component, CHAMPION, alias))
        store.set_alias(component, CHAMPION, version)
        moves = (*(current.moves if current else ()), number)
        _on_failure(undo, "current.json could not be set back", lambda: _restore(component, current, settings))
        champions.write_current(component, Current(version, sha256, plan.before, moves), settings)
        undo.pop_all()
    return HistoryEntry(replace(plan.move, number=number), True)


def _install(plan: _Plan, store: ModelStore, settings: Settings, undo: ExitStack) -> str:
    """Put the version's verified files where serving finds them, and return their hash."""
    component, version = plan.component, plan.move.to_version
    registered, installed = store.sha256(component, version), champions.installed_hash(component, version, settings)
    if plan.move.action == "rollback" and installed is not None and installed == registered:
        return installed
    with tempfile.TemporaryDirectory(prefix="modelyard-") as place:
        source = store.fetch(component, version, Path(place))
        try:
            found = champions.verified_hash(component, source)
        except CorruptModel as error:
            raise corrupt(component, version, error, source) from None
        if found != registered:
            raise CorruptModel(
                f"The registered {component} {version} is not what was registered: "
                f"SHA-256 {found[:12]}…, not {(registered or 'none recorded')[:13]}."
            )
        if installed != found:
            _on_failure(
                undo, "the copy could not be removed", lambda: champions.uninstall(component, version, settings)
            )
        champions.install(component, version, source, settings)
    return found


def _on_failure(undo: ExitStack, complaint: str, action: Callable[[], None]) -> None:
    """Undo a step when the move fails; where that fails, too, the error says so as a note and stays the one that is raised."""

    def attempt(_kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            action()
        except Exception as second:
            if error is None:
                raise
            error.add_note(f"Besides, {complaint}: {second}")

    undo.push(attempt)


def _restore(component: str, current: Current | None, settings: Settings) -> None:
    if current is None:
        (settings.champions / component / champions.CURRENT).unlink(missing_ok=True)
    else:
        champions.write_current(component, current, settings)


def _move(component: str, current: Current | None, version: str, action: Action, who: str, reason: str) -> AliasMove:
    from modelyard.storage import AliasMove

    for name, value in (("who", who), ("reason", reason)):
        if not value.strip():
            raise PromotionRefused(f"Cannot move the {component}'s champion: {name} must not be empty.")
    return AliasMove(component, CHAMPION, current.version if current else None, version, action, who, reason)


def record(move: AliasMove, settings: Settings) -> int:
    """Append a move to the history and return its number.

    Raises:
        StorageError: The database failed.
    """
    from modelyard.storage import append_alias_move

    with _database(settings) as database:
        return append_alias_move(database, move)


def _effective(component: str, settings: Settings) -> frozenset[int]:
    current = champions.read_current(component, settings)
    return frozenset(current.moves if current else ())


@contextmanager
def _database(settings: Settings) -> Generator[Database]:
    from modelyard.storage import Database

    database = Database(settings.database)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@contextmanager
def locked(component: str, settings: Settings) -> Generator[None]:
    """Let one process at a time move a component; SQLite's lock works everywhere and dies with its process.

    Raises:
        RegistryError: Another one has been moving it for too long.
    """
    folder = settings.champions / component
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / ".lock", timeout=LOCK_TIMEOUT_S, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise RegistryError(f"Another process has been moving the {component} for {LOCK_TIMEOUT_S:g} s.") from None
        yield
