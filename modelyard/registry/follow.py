"""Follows the alias `champion` where somebody moved it in the registry itself, past the gate.

A registry is open to whoever may write to it: a colleague in MLflow's interface, a job on another machine. Serving takes what the alias
points at over, but only whole: fetched, compared with its manifest and with the hash that it was registered with, read as a model would
be, and installed beside the old version, before `current.json` is replaced. Whatever is wrong, the old version stays, on disk and in
service, and one sentence says why. Nothing that is fetched is ever unpickled: only the saved model's own folder is fetched at all.

A move that cannot be entered in the history is not made. Looking does not load MLflow where no registry was ever made; otherwise the
first look of a process does (seconds, and about 180 MB), so it belongs on a thread of its own.
"""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from modelyard.errors import CorruptModel, ModelyardError, NoChampion, RegistryError
from modelyard.predictors import Artifact, read_artifact
from modelyard.registry import champions, promotion
from modelyard.registry.champions import COMPONENTS, Current, component_of
from modelyard.registry.mlflow_store import ModelStore, be_brief, shown, unreachable
from modelyard.registry.promotion import CHAMPION
from modelyard.registry.versions import corrupt
from modelyard.settings import Settings

if TYPE_CHECKING:
    from modelyard.storage import AliasMove
    from modelyard.storage.alias_history import Action

WHO: Final = "registry"
REASON: Final = "The alias champion was moved in the registry, outside the gate."
REFUSED_FOR_S: Final = 60.0  # how long a version that was refused is not fetched again

Reader = Callable[[Artifact], object]
log = logging.getLogger("modelyard.registry")


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of a look at the alias.

    Attributes:
        component: `classifier` or `router`.
        state: `same`: what serves stays. `taken`: another version serves from now on. `refused`: the alias points at one that must not.
        sentence: For a person.
        sound: Whether all is as it should be; false where a version was refused or the registry could not be asked.
    """

    component: str
    state: Literal["same", "taken", "refused"]
    sentence: str
    sound: bool = True

    @property
    def problem(self) -> str | None:
        """The sentence, where something is wrong."""
        return None if self.sound else self.sentence


class Follower:
    """Looks at the alias again and again, and remembers what it refused, so that this is not fetched at each look.

    Args:
        settings: Where champions, registry and history are.
        readers: For a component, what makes a working model of an artifact, and raises where that cannot be done; without one, an artifact
            that can be read is good.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        readers: Mapping[str, Reader] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._readers, self._clock = settings, dict(readers or {}), clock
        self._refused: dict[str, tuple[str, float, Followed]] = {}

    def look(self) -> tuple[Followed, ...]:
        """Follow every component."""
        return tuple(self.follow(component) for component in COMPONENTS)

    def follow(self, component: str) -> Followed:
        """Take over what the alias points at, if that is another version than the one that serves. Never raises for what it finds.

        Raises:
            InvalidInput: There is no such component.
        """
        component = component_of(component)
        try:
            found = self._follow(component)
        except ModelyardError as error:
            found = Followed(component, "same", str(error), sound=False)
        except (
            Exception
        ) as error:  # a registry, its files and what fetches them can fail in every way; serving must not
            log.debug("Following the %s failed", component, exc_info=True)
            found = Followed(component, "same", str(unreachable(error)), sound=False)
        return found

    def _follow(self, component: str) -> Followed:
        settings = self._settings
        if settings.mlflow_uri is None and not (settings.home / "mlflow.db").exists():
            return Followed(component, "same", f"There is no registry to follow the {component} in.")
        be_brief(settings)
        store = promotion.open_store(settings)
        found = self._settled(component, store)
        if found is None:
            with promotion.locked(component, settings):  # a promotion sets the alias before `current.json`
                found = self._settled(component, store) or self._take(component, store)
        return found

    def _settled(self, component: str, store: ModelStore) -> Followed | None:
        """Return why there is nothing to do, or None where there is."""
        version = _alias(component, store)
        current = champions.read_current(component, self._settings)
        if version is None:
            serving = "the defaults serve" if current is None else f"version {current.version} stays"
            return Followed(component, "same", f"No {component} is the registry's champion: {serving}.")
        if current is not None and current.version == version:
            self._refused.pop(component, None)
            return Followed(component, "same", f"The {component} is version {version}, as in the registry.")
        refused, until, answer = self._refused.get(component, ("", 0.0, None))
        return answer if refused == version and self._clock() < until else None

    def _take(self, component: str, store: ModelStore) -> Followed:
        version = _alias(component, store)
        current = champions.read_current(component, self._settings)
        if version is None:
            raise RegistryError(f"The alias of the {component} was removed while it was being followed.")
        stays = "the defaults serve" if current is None else f"version {current.version} stays"
        try:
            self._switch(component, current, version, store)
        except (ModelyardError, OSError) as error:
            account = str(error) if isinstance(error, ModelyardError) else f"{component} {version}: {error}"
            answer = Followed(component, "refused", f"{shown(account)}: {stays}.", sound=False)
            self._refused[component] = (version, self._clock() + REFUSED_FOR_S, answer)
            log.error("The alias champion is not followed: %s", answer.sentence)
            return answer
        before = "the defaults" if current is None else f"version {current.version}"
        sentence = f"The {component} {version} serves instead of {before}: the alias was moved outside the gate."
        log.warning("%s", sentence)
        return Followed(component, "taken", sentence)

    def _switch(self, component: str, current: Current | None, version: str, store: ModelStore) -> None:
        """Install the version, enter the move in the history, and last of all replace `current.json`."""
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", version):
            raise CorruptModel(f"The registry's {component} has a version {version[:40]!r}, which cannot name a folder")
        settings = self._settings
        had = champions.installed_hash(component, version, settings)
        sha256 = self._install(component, version, store)
        try:
            number = promotion.record(_move(component, current, version, store), settings)
            before, moves = _before(current, version), (*(current.moves if current else ()), number)
            champions.write_current(component, Current(version, sha256, before, moves), settings)
        except BaseException:
            if had is None:
                champions.uninstall(component, version, settings)
            raise

    def _install(self, component: str, version: str, store: ModelStore) -> str:
        """Put the version's files where serving finds them, checked in every way, and return their hash."""
        registered = store.sha256(component, version)
        if registered is None:
            raise CorruptModel(f"The registered {component} {version} has no hash: it was not registered by Modelyard")
        with tempfile.TemporaryDirectory(prefix="modelyard-") as place:
            source = store.fetch(component, version, Path(place))
            try:
                artifact = read_artifact(source, component)
            except CorruptModel as error:
                raise corrupt(component, version, error, source) from None
            if artifact.sha256 != registered:
                raise CorruptModel(
                    f"The registered {component} {version} is not what was registered: "
                    f"SHA-256 {artifact.sha256[:12]}…, not {registered[:12]}…"
                )
            self._try(component, version, artifact)
            champions.install(component, version, source, self._settings)
        return artifact.sha256

    def _try(self, component: str, version: str, artifact: Artifact) -> None:
        """Make a working model once, so that no version is taken that could not be loaded at the next start."""
        reader = self._readers.get(component)
        if reader is None:
            return
        try:
            reader(artifact)
        except Exception as error:  # whatever a strange model makes the reader raise, it is not one that can serve
            raise CorruptModel(f"The registered {component} {version} cannot be loaded: {error!r:.200}") from error


def follow(component: str, settings: Settings, readers: Mapping[str, Reader] | None = None) -> Followed:
    """Look at the alias once; see `Follower.follow`."""
    return Follower(settings, readers).follow(component)


def _alias(component: str, store: ModelStore) -> str | None:
    try:
        return store.alias(component, CHAMPION)
    except NoChampion:  # nothing was registered yet
        return None


def _move(component: str, current: Current | None, version: str, store: ModelStore) -> AliasMove:
    from modelyard.storage import AliasMove

    run = store.run_of(component, version)
    return AliasMove(
        component,
        CHAMPION,
        None if current is None else current.version,
        version,
        _action(current, version),
        WHO,
        REASON,
        (run,) if run else (),
    )


def _action(current: Current | None, version: str) -> Action:
    if current is None:
        return "bootstrap"
    return "rollback" if version in current.before else "promote"


def _before(current: Current | None, version: str) -> tuple[str, ...]:
    """Return what a later rollback goes back to: one that was champion before is gone back to, any other comes on top."""
    if current is None:
        return ()
    if version in current.before:
        return current.before[: current.before.index(version)]
    return (*current.before, current.version)
