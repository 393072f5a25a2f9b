"""Which index serves: every version in a folder of its own, and one small file that says which is current."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from modelyard.errors import CorruptModel
from modelyard.predictors import verify_artifact
from modelyard.retrieval.index import KIND, Index
from modelyard.settings import Settings

CURRENT = "current"


def publish(index: Index, settings: Settings) -> Path:
    """Write an index under its version and make it the current one; return its folder.

    The version is written whole before `current` is replaced, in one step: whoever loads meanwhile gets the old or the new one.
    """
    folder = settings.indexes / index.version
    if not _whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        index.save(folder)
    partial = settings.indexes / f".{CURRENT}.{os.getpid()}.partial"
    partial.write_text(f"{index.version}\n", "utf-8")
    partial.replace(settings.indexes / CURRENT)
    return folder


def current_index(settings: Settings) -> Index | None:
    """Load the index that serves: the folder of the settings, else the current version, else None where nothing was published.

    Raises:
        CorruptModel: It cannot be read.
    """
    if settings.index is not None:
        return Index.load(settings.index)
    version = current_version(settings)
    return None if version is None else Index.load(settings.indexes / version)


def current_version(settings: Settings) -> str | None:
    """Return the version of the index that was published last, or None.

    Raises:
        CorruptModel: The file that says so is damaged.
    """
    try:
        version = (settings.indexes / CURRENT).read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptModel(f"The file {settings.indexes / CURRENT} cannot be read: {error}.") from None
    if not re.fullmatch(r"[0-9a-f]{16}", version):
        raise CorruptModel(
            f"The file {settings.indexes / CURRENT} must hold the version of an index, but got {version[:40]!r}."
        )
    return version


def _whole(folder: Path) -> bool:
    try:
        verify_artifact(folder, KIND)
    except CorruptModel:
        return False
    return True
