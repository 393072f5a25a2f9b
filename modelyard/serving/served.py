"""Every model that the catalogue serves, loaded when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from modelyard.catalog import load_catalog
from modelyard.composite import CompositeModel
from modelyard.registry.champions import COMPONENTS, check
from modelyard.serving.loading import load
from modelyard.settings import Settings
from modelyard.upstream import Upstream


class Served:
    """Composites, and base models by name; all of them share one HTTP client.

    Args:
        settings: Where champions, index and catalogue are.

    Raises:
        InvalidSetting: The catalogue cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._upstream = Upstream.from_settings(settings)
        self._loaded: dict[str, CompositeModel] = {}
        self._lock = threading.Lock()
        catalog = load_catalog(settings.catalog)
        # A composite hides a base model of the same name.
        self._names = dict.fromkeys(catalog.served, "base") | dict.fromkeys(catalog.composites, "composite")

    @property
    def names(self) -> Mapping[str, str]:
        """Every name that is served, with its kind: `composite` or `base`."""
        return self._names

    def get(self, name: str) -> CompositeModel:
        """Return a model, loading it the first time.

        Raises:
            UnknownModel: Nothing of that name is served.
            CorruptModel: A champion or the index differs from its manifest.
        """
        if found := self._loaded.get(name):
            return found
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load(name, self._settings, upstream=self._upstream)
            return self._loaded[name]

    def champions(self) -> Mapping[str, Mapping[str, str]]:
        """Say for each component whether its champion is whole, or why none serves."""
        checks = (check(component, self._settings) for component in COMPONENTS)
        return {found.component: {"state": found.state, "detail": found.detail} for found in checks}

    async def close(self) -> None:
        """Close the connections to upstreams."""
        await self._upstream.close()
