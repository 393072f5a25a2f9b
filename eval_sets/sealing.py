"""Seals a set, and checks a sealed one: files, checksums, counts and version."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval_sets.cards import CARD, refresh
from eval_sets.loading import TASKS, documents_version, read_documents, read_tasks
from eval_sets.manifest import MANIFEST, Manifest, checked_manifest, checksums, folder_of
from eval_sets.tally import Counts, document_counts, task_counts
from modelyard.errors import InvalidEvalSet


@dataclass(frozen=True, slots=True)
class Contents:
    """What a manifest says about a set's content."""

    kind: Literal["tasks", "documents"]
    version: str
    counts: Counts


def seal(folder: Path | str) -> Manifest:
    """Write the figures on a folder's card, then its manifest; this appears whole or not at all.

    Raises:
        InvalidEvalSet: The set breaks a rule, or has no card.
    """
    folder = folder_of(folder)
    if not (folder / CARD).is_file():
        raise InvalidEvalSet(
            f"{folder} has no {CARD}: a sealed set says what it is for, how it was made and what its limits are."
        )
    refresh(folder)
    found = contents(folder)
    manifest = Manifest(kind=found.kind, version=found.version, counts=found.counts, files=checksums(folder))
    partial = folder / f".{MANIFEST}.{os.getpid()}.partial"
    try:
        partial.write_text(json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False) + "\n", "utf-8")
        partial.replace(folder / MANIFEST)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def verify(folder: Path | str) -> Manifest:
    """Check a folder against its manifest.

    Raises:
        InvalidEvalSet: There is no manifest, something differs from it, or the set breaks a rule.
    """
    folder = folder_of(folder)
    manifest = checked_manifest(folder)
    found = contents(folder)
    for name in ("kind", "version", "counts"):
        recorded, value = getattr(manifest, name), getattr(found, name)
        if recorded != value:
            raise InvalidEvalSet(f"{folder / MANIFEST} says {name} {recorded!r}, but the folder has {value!r}.")
    return manifest


def contents(folder: Path) -> Contents:
    """Read a set of either kind, whatever its manifest says.

    Raises:
        InvalidEvalSet: The set breaks a rule.
    """
    if (folder / TASKS).exists():
        tasks = read_tasks(folder)
        return Contents("tasks", tasks.version, task_counts(tasks))
    documents = read_documents(folder)
    return Contents("documents", documents_version(documents), document_counts(documents))
