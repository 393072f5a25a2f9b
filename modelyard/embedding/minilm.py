"""all-MiniLM-L6-v2, run locally by onnxruntime: sentences of like meaning get vectors of large cosine.

The model is no part of Modelyard: `modelyard models install` brings it, and whatever uses it goes on without it where it is missing.

    <home>/models/all-minilm-l6-v2/{model.onnx, tokenizer.json, manifest.json}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.errors import CorruptModel
from modelyard.settings import Settings

NAME: Final = "all-minilm-l6-v2"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FINGERPRINT: Final = f"{NAME}:{WEIGHTS_SHA256[:12]}"
DIMENSIONS: Final = 384
LONGEST: Final = 256  # tokens; the model was trained on no longer ones
BATCH: Final = 32
MANIFEST: Final = "manifest.json"


class MiniLm:
    """A loaded sentence encoder; safe to share between threads.

    Args:
        folder: As `modelyard models install` made it.

    Raises:
        CorruptModel: A file differs from the manifest or is missing.
    """

    fingerprint = FINGERPRINT
    dimensions = DIMENSIONS

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        graph, tokenizer = _checked(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # one short text gains nothing from a second
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_str(tokenizer.decode("utf-8"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, 384); what lies beyond the first 256 tokens of a text is left out."""
        found = np.zeros((len(texts), DIMENSIONS), np.float32)
        ids: list[list[int]] = [encoding.ids for encoding in self._tokenizer.encode_batch([_clean(t) for t in texts])]
        # Texts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = self._run([ids[row] for row in rows])
        return found

    def _run(self, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        longest = max(map(len, ids))
        tokens, mask = np.zeros((len(ids), longest), np.int64), np.zeros((len(ids), longest), np.float32)
        for row, known in enumerate(ids):
            tokens[row, : len(known)], mask[row, : len(known)] = known, 1.0
        (embedding,) = self._session.run(["embedding"], {"ids": tokens, "mask": mask})
        return np.asarray(embedding, np.float32)


def minilm_folder(settings: Settings) -> Path:
    """Return where the model is installed, or would be."""
    return settings.home / "models" / NAME


def load_minilm(settings: Settings) -> MiniLm | None:
    """Load the model where it is installed; None where it is not.

    Raises:
        CorruptModel: It is installed, but a file differs from its manifest.
    """
    folder = minilm_folder(settings)
    return MiniLm(folder) if (folder / MANIFEST).exists() else None


def describe(graph: bytes, tokenizer: bytes) -> bytes:
    """Return the manifest of an installed model."""
    hashes = {"model.onnx": _sha256(graph), "tokenizer.json": _sha256(tokenizer)}
    return json.dumps({"name": NAME, "weights_sha256": WEIGHTS_SHA256, "files": hashes}, indent=1).encode()


def _checked(folder: Path) -> tuple[bytes, bytes]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = {name: (folder / name).read_bytes() for name in ("model.onnx", "tokenizer.json")}
        wrong = [name for name, data in files.items() if manifest["files"][name] != _sha256(data)]
        if manifest["weights_sha256"] != WEIGHTS_SHA256:
            wrong.append("weights")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(f"The sentence encoder in {folder} cannot be read: {error!r}.") from None
    if wrong:
        raise CorruptModel(f"The sentence encoder in {folder} is not what was installed: {', '.join(wrong)} differ.")
    return files["model.onnx"], files["tokenizer.json"]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _clean(text: str) -> str:
    """Replace lone surrogates, which the tokenizer refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
