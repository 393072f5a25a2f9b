"""The champions that serve: verified copies in `settings.champions`, so that serving starts without MLflow and without the database.

champions/<component>/<version>/{model.json, arrays.npz, manifest.json}
champions/<component>/current.json      which version serves; replaced atomically: the one point at which a promotion takes effect
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from modelyard.errors import CorruptModel, InvalidInput
from modelyard.predictors import Artifact, read_artifact, verify_artifact
from modelyard.predictors.artifact import content_hash
from modelyard.settings import Settings

Component = Literal["classifier", "router"]
COMPONENTS: Final[tuple[Component, ...]] = get_args(Component)
CURRENT: Final = "current.json"


@dataclass(frozen=True, slots=True)
class Current:
    """Which version serves.

    Attributes:
        version: The version.
        sha256: The content hash of its artifact.
        before: The versions that a rollback returns to, oldest first.
        moves: Numbers of the history's rows that took effect, oldest first.
    """

    version: str
    sha256: str
    before: tuple[str, ...] = ()
    moves: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Champion:
    """A champion as loaded."""

    version: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class ChampionCheck:
    """What `check` found; `none` means that the defaults serve."""

    component: str
    state: Literal["ok", "none", "broken"]
    detail: str


def component_of(name: str) -> Component:
    """Return the component of that name.

    Raises:
        InvalidInput: There is none.
    """
    if name not in COMPONENTS:
        raise InvalidInput(f"A component must be one of {', '.join(COMPONENTS)}, but got {name!r}.")
    return name


def load_champion(component: str, settings: Settings) -> Champion | None:
    """Read the champion that serves; None where nothing was promoted yet.

    Raises:
        CorruptModel: `current.json` or the saved model cannot be read or differs from what was promoted.
    """
    current = read_current(component, settings)
    if current is None:
        return None
    folder = champion_folder(component, current.version, settings)
    artifact = read_artifact(folder, component)
    if artifact.sha256 != current.sha256:
        raise CorruptModel(
            f"The champion in {folder} is not the one that was promoted: "
            f"SHA-256 {artifact.sha256[:12]}…, not {current.sha256[:12]}…."
        )
    return Champion(current.version, artifact)


def check(component: str, settings: Settings) -> ChampionCheck:
    """Say whether the champion that should serve can be loaded; never raises for what it finds."""
    try:
        champion = load_champion(component, settings)
    except CorruptModel as error:
        return ChampionCheck(component, "broken", str(error))
    if champion is None:
        return ChampionCheck(component, "none", f"no {component} was promoted yet; the defaults serve")
    return ChampionCheck(component, "ok", f"version {champion.version}, SHA-256 {champion.artifact.sha256[:12]}…")


def champion_folder(component: str, version: str, settings: Settings) -> Path:
    """Return where the copy of a version lives."""
    return settings.champions / component_of(component) / version


def read_current(component: str, settings: Settings) -> Current | None:
    """Return which version serves, or None.

    Raises:
        CorruptModel: The file is damaged.
    """
    path = settings.champions / component_of(component) / CURRENT
    try:
        facts = json.loads(path.read_text("utf-8"))
        found = Current(facts["version"], facts["sha256"], tuple(facts["before"]), tuple(facts["moves"]))
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", found.version):
            raise ValueError(f"version {found.version!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(f"{path} does not say which {component} serves: {error!r}.") from None
    return found


def write_current(component: str, current: Current, settings: Settings) -> None:
    """Switch to another version: the file is replaced whole."""
    path = settings.champions / component_of(component) / CURRENT
    _replace(path, {"component": component, **asdict(current)})


def install(component: str, version: str, source: Path, settings: Settings) -> None:
    """Copy a saved model to where serving finds it, whole or not at all; a good copy that is there already stays.

    Raises:
        CorruptModel: The source is not what its manifest says.
    """
    wanted = verified_hash(component, source)
    folder = champion_folder(component, version, settings)
    if installed_hash(component, version, settings) == wanted:
        return
    partial = folder.with_name(f".{version}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(source, partial)
        verify_artifact(partial, component)
        if folder.exists():  # damaged: what serves from memory is untouched, and what starts finds it whole again
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def installed_hash(component: str, version: str, settings: Settings) -> str | None:
    """Return the content hash of a version's copy, or None where it is missing or damaged."""
    try:
        return verified_hash(component, champion_folder(component, version, settings))
    except CorruptModel:
        return None


def verified_hash(component: str, folder: Path) -> str:
    """Return the content hash of a saved model whose files were checked; raises CorruptModel."""
    return content_hash(verify_artifact(folder, component)["files"])


def uninstall(component: str, version: str, settings: Settings) -> None:
    """Remove a version's copy, if there is one."""
    folder = champion_folder(component, version, settings)
    if folder.exists():
        shutil.rmtree(folder)


def _replace(path: Path, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(facts, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
