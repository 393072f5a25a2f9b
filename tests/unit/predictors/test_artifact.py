from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.errors import CorruptModel
from modelyard.predictors import join, part, read_artifact, verify_artifact, write_artifact
from modelyard.predictors.artifact import ARRAYS, FACTS, MANIFEST

STATE: tuple[dict[str, Any], dict[str, Any]] = (
    {"words": ["größe", "☂"], "share": 0.1 + 0.2, "none": None},
    {"a/weights": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.array([np.nan, np.inf, -0.0])},
)
Tamper = Callable[[Path], object]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "model", "router", STATE, {"rows": 3})
    return tmp_path / "model"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def in_manifest(**changes: Any) -> Tamper:
    def tamper(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(manifest | changes))

    return tamper


def in_files(change: Callable[[dict[str, Any]], object]) -> Tamper:
    def tamper(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest["files"])
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return tamper


def disguised(name: str, content: bytes) -> Tamper:
    """Replace a file and give the manifest its new hash."""

    def tamper(folder: Path) -> None:
        (folder / name).write_bytes(content)
        in_files(lambda files: files.update({name: hashlib.sha256(content).hexdigest()}))(folder)

    return tamper


def with_pickle(folder: Path) -> None:
    np.savez(folder / ARRAYS, allow_pickle=True, bias=np.array([{"run": "me"}], dtype=object))
    disguised(ARRAYS, (folder / ARRAYS).read_bytes())(folder)


def with_bare_array(folder: Path) -> None:
    with (folder / ARRAYS).open("wb") as file:
        np.save(file, np.zeros(3))
    disguised(ARRAYS, (folder / ARRAYS).read_bytes())(folder)


TAMPERED: dict[str, Tamper] = {
    "arrays changed": lambda folder: flip(folder / ARRAYS),
    "facts changed": lambda folder: flip(folder / FACTS),
    "arrays cut off": lambda folder: (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:-5]),
    "arrays gone": lambda folder: (folder / ARRAYS).unlink(),
    "facts gone": lambda folder: (folder / FACTS).unlink(),
    "manifest gone": lambda folder: (folder / MANIFEST).unlink(),
    "manifest empty": lambda folder: (folder / MANIFEST).write_text(""),
    "manifest not UTF-8": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
    "manifest a list": lambda folder: (folder / MANIFEST).write_text("[]"),
    "manifest without files": in_manifest(files={}),
    "manifest's files a number": in_manifest(files=3),
    "manifest of another kind": in_manifest(kind="classifier"),
    "manifest of another format": in_manifest(format=99),
    "hash changed": in_files(lambda files: files.update({ARRAYS: "0" * 64})),
    "hash missing": in_files(lambda files: files.pop(ARRAYS)),
    "hash null": in_files(lambda files: files.update({ARRAYS: None})),
    "hash a number": in_files(lambda files: files.update({FACTS: 7})),
    "file added": in_files(lambda files: files.update({"../other.py": "0" * 64})),
}
UNREADABLE: dict[str, Tamper] = {
    "facts not JSON": disguised(FACTS, b"{"),
    "arrays empty": disguised(ARRAYS, b""),
    "arrays not an archive": disguised(ARRAYS, b"no archive"),
    "arrays a broken archive": disguised(ARRAYS, b"PK\x03\x04 and no more"),
    "arrays with a pickle": with_pickle,
    "arrays a bare array": with_bare_array,
}


def test_what_was_written_is_read(saved: Path) -> None:
    artifact = read_artifact(saved, "router")

    assert (artifact.kind, artifact.facts, artifact.manifest["about"]) == ("router", STATE[0], {"rows": 3})
    assert set(artifact.arrays) == set(STATE[1])
    for name, array in STATE[1].items():
        np.testing.assert_array_equal(artifact.arrays[name], array)
        assert artifact.arrays[name].dtype == array.dtype


def test_content_hash_depends_on_the_state_alone(tmp_path: Path, saved: Path) -> None:
    written = write_artifact(tmp_path / "again", "router", STATE, {"rows": "other"})
    other = write_artifact(tmp_path / "other", "router", ({}, STATE[1]))

    assert read_artifact(saved, "router").sha256 == written != other


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_tampered_model_is_not_verified(saved: Path, tamper: Tamper) -> None:
    tamper(saved)

    with pytest.raises(CorruptModel, match=r"saved model"):
        verify_artifact(saved, "router")


@pytest.mark.parametrize("tamper", UNREADABLE.values(), ids=UNREADABLE)
def test_model_that_matches_its_manifest_but_cannot_be_read_is_corrupt(saved: Path, tamper: Tamper) -> None:
    tamper(saved)
    verify_artifact(saved, "router")

    with pytest.raises(CorruptModel, match="cannot be read"):
        read_artifact(saved, "router")


def test_missing_folder_is_a_corrupt_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="nowhere"):
        read_artifact(tmp_path / "nowhere", "router")


@pytest.mark.parametrize("about", [{"rows": object()}, {"rows": {1, 2}}])
def test_failed_write_leaves_nothing_behind(tmp_path: Path, about: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        write_artifact(tmp_path / "model", "router", STATE, about)

    assert list(tmp_path.iterdir()) == []


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_artifact(tmp_path / "model", "router", ({}, {"a": np.array([{}], dtype=object)}))

    assert list(tmp_path.iterdir()) == []


def test_existing_model_is_not_overwritten(saved: Path) -> None:
    with pytest.raises(OSError, match="model"):
        write_artifact(saved, "router", ({}, {}))

    assert read_artifact(saved, "router").facts == STATE[0]
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_joined_states_come_apart_again() -> None:
    inner = join({"x": STATE, "empty": ({}, {})})
    facts, arrays = part(part(join({"outer": inner}), "outer"), "x")

    assert facts == STATE[0]
    assert set(arrays) == set(STATE[1])
