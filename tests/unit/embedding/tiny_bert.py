"""Random weights in the shape of all-MiniLM-L6-v2 with a small vocabulary, their safetensors file, and the encoder in plain numpy."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "how", "do", "i", "centre", "a", "div", "index", "the", "table", "?")
WIDTH, INNER, POSITIONS, LAYERS, HEADS = 384, 1536, 512, 6, 12

Weights = dict[str, npt.NDArray[np.float32]]


def weights(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)

    def some(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    made: Weights = {
        "embeddings.word_embeddings.weight": some(len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": some(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": some(2, WIDTH),
    }
    for name in ("embeddings.LayerNorm", *(f"encoder.layer.{n}.{part}" for n in range(LAYERS) for part in NORMS)):
        made[f"{name}.weight"], made[f"{name}.bias"] = 1 + some(WIDTH), some(WIDTH)
    for n in range(LAYERS):
        for part, (out, into) in DENSE.items():
            name = f"encoder.layer.{n}.{part}"
            made[f"{name}.weight"], made[f"{name}.bias"] = some(out, into), some(out)
    return made


NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
DENSE = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (INNER, WIDTH),
    "output.dense": (WIDTH, INNER),
}


def safetensors(tensors: Weights) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + b"".join(tensor.tobytes() for tensor in tensors.values())


def tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made: Any = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made.to_str()


def reference(ids: Sequence[int], w: Weights) -> npt.NDArray[np.float64]:
    """Encode one text as the papers say, in float64."""

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T.astype(np.float64) + w[f"{name}.bias"]

    n = len(ids)
    x: Any = w["embeddings.word_embeddings.weight"][list(ids)].astype(np.float64)
    x = x + w["embeddings.position_embeddings.weight"][:n] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        q, k, v = (
            dense(x, f"{name}attention.self.{part}").reshape(n, HEADS, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH / HEADS)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        joined = (shares @ v).transpose(1, 0, 2).reshape(n, WIDTH)
        x = norm(x + dense(joined, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
        inner = dense(x, f"{name}intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        x = norm(x + dense(inner, f"{name}output.dense"), f"{name}output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
