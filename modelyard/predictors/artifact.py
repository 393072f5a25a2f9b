"""A saved model: a folder of `model.json`, `arrays.npz` and `manifest.json` with the SHA-256 of both.

The manifest is checked before anything is read, and the arrays are read with pickle switched off.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.errors import CorruptModel

FORMAT = 1
FACTS, ARRAYS, MANIFEST = "model.json", "arrays.npz", "manifest.json"

Arrays = dict[str, npt.NDArray[Any]]
State = tuple[dict[str, Any], Arrays]  # JSON-ready facts, and arrays


@dataclass(frozen=True, slots=True)
class Artifact:
    """A saved model as read: its kind, its state, and what the manifest says about it."""

    kind: str
    facts: dict[str, Any]
    arrays: Arrays
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash over the hashes of the files: the identity of this model's content."""
        return content_hash(self.manifest["files"])


def join(parts: Mapping[str, State]) -> State:
    """Put several states into one, arrays under `name/…`."""
    facts = {name: state[0] for name, state in parts.items()}
    arrays = {f"{name}/{key}": array for name, state in parts.items() for key, array in state[1].items()}
    return facts, arrays


def part(state: State, name: str) -> State:
    """Take one state out of a joined one."""
    prefix = f"{name}/"
    return state[0][name], {k.removeprefix(prefix): v for k, v in state[1].items() if k.startswith(prefix)}


def content_hash(files: Mapping[str, str]) -> str:
    """Return the hash over named file hashes."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()


def write_artifact(folder: Path, kind: str, state: State, about: Mapping[str, Any] | None = None) -> str:
    """Save a model; the folder appears whole or not at all.

    Args:
        folder: Where to; must not exist.
        kind: What it is, such as `classifier`.
        state: Facts and arrays.
        about: JSON-ready facts for people: data hashes, parameters, figures.

    Returns:
        The content hash.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        (partial / FACTS).write_text(json.dumps(state[0], ensure_ascii=False, sort_keys=True), "utf-8")
        np.savez(partial / ARRAYS, allow_pickle=False, **dict(sorted(state[1].items())))
        files = {name: _sha256(partial / name) for name in (FACTS, ARRAYS)}
        manifest = {"format": FORMAT, "kind": kind, "files": files, "about": dict(about or {})}
        (partial / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True), "utf-8")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return content_hash(files)


def verify_artifact(folder: Path, kind: str) -> dict[str, Any]:
    """Check every file against the manifest and return the manifest.

    Raises:
        CorruptModel: A file is missing, differs from its hash, or the folder holds another kind or format.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files, found, version = manifest["files"], manifest["kind"], manifest["format"]
        if set(files) != {FACTS, ARRAYS}:
            raise KeyError(f"files {sorted(files)}")
        if not all(isinstance(expected, str) for expected in files.values()):
            raise TypeError(f"a hash is text, but got {list(files.values())}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(f"The saved model in {folder} has no readable {MANIFEST}: {error}.") from None
    if (found, version) != (kind, FORMAT):
        raise CorruptModel(
            f"The saved model in {folder} is a {found!r} of format {version!r}, not a {kind!r} of format {FORMAT}."
        )
    for name, expected in files.items():
        path = folder / name
        actual = _sha256(path) if path.is_file() else "missing"
        if actual != expected:
            raise CorruptModel(
                f"The saved model's file {path} does not match its manifest: SHA-256 {actual[:12]}…, not {expected[:12]}…."
            )
    return manifest


def read_artifact(folder: Path, kind: str) -> Artifact:
    """Verify and read a saved model.

    Raises:
        CorruptModel: See `verify_artifact`; also where a file matches its hash but cannot be read.
    """
    manifest = verify_artifact(folder, kind)
    try:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        with (folder / ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptModel(f"The saved model in {folder} cannot be read: {error}.") from None
    return Artifact(kind, facts, arrays, manifest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
