"""Reads registered versions: what a comparison needs of a challenger that does not serve yet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from modelyard.errors import CorruptModel, RegistryError
from modelyard.predictors import read_artifact
from modelyard.registry.champions import Champion, component_of
from modelyard.registry.mlflow_store import MlflowStore
from modelyard.settings import Settings

CHALLENGER: Final = "challenger"


def challenger_version(component: str, settings: Settings) -> str:
    """Return the version that the alias `challenger` points at.

    Raises:
        RegistryError: There is none.
    """
    version = MlflowStore(settings).alias(component_of(component), CHALLENGER)
    if version is None:
        raise RegistryError(f"No {component} is the challenger: train one first.")
    return version


def load_version(component: str, version: str, settings: Settings) -> Champion:
    """Fetch, verify and read a registered version.

    Raises:
        RegistryError: There is no such version.
        CorruptModel: It differs from its manifest or from what was registered.
    """
    store = MlflowStore(settings)
    registered = store.sha256(component_of(component), version)
    with tempfile.TemporaryDirectory(prefix="modelyard-") as place:
        folder = store.fetch(component, version, Path(place))
        try:
            artifact = read_artifact(folder, component)
        except CorruptModel as error:
            raise corrupt(component, version, error, folder) from None
    if artifact.sha256 != registered:
        raise CorruptModel(f"The registered {component} {version} is not what was registered.")
    return Champion(version, artifact)


def corrupt(component: str, version: str, error: CorruptModel, folder: Path) -> CorruptModel:
    """Return an error about a registered version, without the name of the temporary folder into which it was fetched."""
    return CorruptModel(
        f"The registered {component} {version} is corrupt: {str(error).replace(str(folder), folder.name)}"
    )
