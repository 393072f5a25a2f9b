"""The manifest of an eval set: every file's checksum, the counts and the version, so that a damaged or edited set is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import pydantic

from modelyard.errors import InvalidEvalSet

MANIFEST: Final = "manifest.json"
CARD: Final = "card.md"
SCHEMA: Final = 1

_Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(pydantic.BaseModel):
    """What `manifest.json` says.

    Attributes:
        manifest: Version of this layout.
        kind: Whether the set is one of labelled prompts or of documents.
        version: SHA-256 of the content.
        counts: How many rows there are in all, and of each label.
        files: Checksum of every file but the manifest, by its path below the folder.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    manifest: Literal[1] = SCHEMA
    kind: Literal["tasks", "documents"]
    version: _Sha256
    counts: dict[str, int | dict[str, int]]
    files: dict[str, _Sha256]


def folder_of(folder: Path | str) -> Path:
    """Return the folder as a path.

    Raises:
        InvalidEvalSet: It is not a folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InvalidEvalSet(f"There is no eval set at {path}: it is not a folder.")
    return path


def checked_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest and check the files against it.

    Raises:
        InvalidEvalSet: There is none, it is damaged, or a file is missing, new or different.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InvalidEvalSet(f"{folder} has no {MANIFEST}; write it with: python -m eval_sets seal {folder}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InvalidEvalSet(f"{path} is damaged at {place}: {first['msg']}.") from None
    found = checksums(folder)
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            raise InvalidEvalSet(f"{path} lists {name}, which is missing from {folder}.")
        if name not in manifest.files:
            raise InvalidEvalSet(f"{folder / name} is not listed in {path}; seal the set anew.")
        if found[name] != manifest.files[name]:
            raise InvalidEvalSet(f"{folder / name} differs from its checksum in {path}.")
    return manifest


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below the folder but the manifest; hidden files do not belong to a set."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() != MANIFEST:
            found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
