"""Every model that the catalogue serves, with what serves now: champions, index and catalogue are looked at again while serving.

A change is loaded beside what serves and takes its place in one assignment. Requests under way keep the composite that they began with,
so that none is dropped; the old one goes when the last of them is done. What cannot be loaded changes nothing, and `problems` says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.catalog.manager import ModelManager
from modelyard.composite import CompositeModel
from modelyard.control.caches import Caches
from modelyard.control.memory import Memory
from modelyard.errors import ModelyardError
from modelyard.registry.champions import COMPONENTS, check, read_current
from modelyard.retrieval.publishing import current_version
from modelyard.routing.conversation import Conversations
from modelyard.serving.loading import Yard, open_yard
from modelyard.settings import Settings
from modelyard.upstream import DeploymentStates, Upstream

log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class _Generation:
    """What serves between two changes."""

    number: int
    revision: int
    stamp: tuple[Any, ...]
    yard: Yard
    names: Mapping[str, str]
    loaded: dict[str, CompositeModel] = field(default_factory=dict[str, CompositeModel])


class Served:
    """Composites, and base models by name; all of them share champions, index and one HTTP client.

    Args:
        settings: Where champions, index and catalogue are.
        manager: The catalogue, with the changes of operators; the files' alone without it.
        caches: Where decisions and passages are kept; they are not without it.

    Raises:
        InvalidSetting: The catalogue cannot be read.
    """

    def __init__(self, settings: Settings, manager: ModelManager | None = None, caches: Caches | None = None) -> None:
        self._settings, self._caches = settings, caches or Caches.sized(0.0)
        self.manager = manager or ModelManager(settings.catalog)
        self._file = _file_stamp(settings.catalog)
        self.upstream = Upstream.from_settings(settings)
        self.states = DeploymentStates()
        self.conversations = Conversations()
        self.problems: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._generation: _Generation | None = None

    @property
    def names(self) -> Mapping[str, str]:
        """Every name that is served, with its kind: `composite` or `base`."""
        generation = self._generation
        return self.manager.catalog.offered if generation is None else generation.names

    @property
    def generation(self) -> int:
        """How often what serves has changed since the start; 0 before the first model was asked for."""
        return 0 if self._generation is None else self._generation.number

    @property
    def revision(self) -> int:
        """Number of the catalogue that serves."""
        return self.manager.revision if self._generation is None else self._generation.revision

    @property
    def yard(self) -> Yard:
        """What serves now, loaded where it was not yet; may take a second the first time.

        Raises:
            CorruptModel: A champion or the index differs from its manifest.
        """
        return self._now().yard

    def get(self, name: str) -> CompositeModel:
        """Return a model, loading it the first time.

        Raises:
            UnknownModel: Nothing of that name is served.
            CorruptModel: A champion or the index differs from its manifest.
        """
        generation = self._generation or self._now()
        found = generation.loaded.get(name)
        if found is None:  # two threads may compose the same model: they are equal, and one of them stays
            found = generation.loaded[name] = generation.yard.compose(name)
        return found

    def ready(self, name: str) -> CompositeModel | None:
        """Return a model that can be had without waiting, or None."""
        generation = self._generation
        return None if generation is None else generation.loaded.get(name)

    def refresh(self) -> bool:
        """Look whether something changed, and serve it from now on; return whether that happened. Never raises for what it finds."""
        generation = self._generation
        if generation is None:
            return False
        try:
            self._read_catalogue()
            with self._lock:  # two that see the same change load it once
                generation = self._generation or generation
                if self._stamp() == generation.stamp:
                    self.problems = ()
                    return False
                self._generation = self._load(generation.number + 1)
        except ModelyardError as error:
            if str(error) not in self.problems:
                log.error("What serves stays as it was: %s", error)
            self.problems = (str(error),)
            return False
        self.problems = ()
        log.info("Serving changed: %s", self.champions())
        return True

    def champions(self) -> Mapping[str, Mapping[str, str]]:
        """Say for each component whether its champion is whole, or why none serves."""
        checks = (check(component, self._settings) for component in COMPONENTS)
        return {found.component: {"state": found.state, "detail": found.detail} for found in checks}

    async def close(self) -> None:
        """Close the connections to upstreams."""
        await self.upstream.close()

    def _now(self) -> _Generation:
        with self._lock:
            if self._generation is None:
                self._generation = self._load(1)
            return self._generation

    def _load(self, number: int) -> _Generation:
        stamp = self._stamp()  # before what it stands for: what changes meanwhile is seen as a change next time
        snapshot = self.manager.now
        yard = open_yard(
            self._settings,
            snapshot.catalog,
            upstream=self.upstream,
            states=self.states,
            conversations=self.conversations,
            memory=Memory(self._caches, number),
        )
        return _Generation(number, snapshot.revision, stamp, yard, snapshot.catalog.offered)

    def _stamp(self) -> tuple[Any, ...]:
        champions = tuple(read_current(component, self._settings) for component in COMPONENTS)
        return (*champions, current_version(self._settings), self.manager.revision)

    def _read_catalogue(self) -> None:
        """Take over what changed in the catalogue's file, or what other processes stored."""
        file = _file_stamp(self._settings.catalog)
        if file != self._file:
            self.manager.reload()
            self._file = file
        else:
            self.manager.refresh()


def _file_stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None or not path.exists():
        return None
    about = path.stat()
    return about.st_mtime_ns, about.st_size, about.st_ino
