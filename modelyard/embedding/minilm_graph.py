"""Builds the graph of all-MiniLM-L6-v2 from its published weights, so that it runs without torch.

A BERT encoder (Devlin et al. 2019) of 6 layers, 12 heads and width 384, mean-pooled over the tokens that are not padding and scaled to
unit length (Reimers & Gurevych 2019; Wang et al. 2020). Query, key and value are one product; everything else is as published.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.errors import CorruptModel

LAYERS: Final = 6
HEADS: Final = 12
WIDTH: Final = 384
EPSILON: Final = 1e-12
OPSET: Final = 20  # the first with Gelu

Weights = Mapping[str, npt.NDArray[np.float32]]


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the float32 tensors of a safetensors file: 8 bytes of header length, a JSON header, the data.

    Raises:
        CorruptModel: The file is not one.
    """
    data = path.read_bytes()
    try:
        (size,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + size])
        start = 8 + size
        return {
            name: np.frombuffer(data, np.float32, offset=start + at[0], count=(at[1] - at[0]) // 4).reshape(shape)
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] == "F32"
            for at, shape in [(entry["data_offsets"], entry["shape"])]
        }
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(f"{path} is not a safetensors file: {error}.") from None


def build(weights: Weights) -> bytes:
    """Return the ONNX model: `ids` int64 (n, t) and `mask` float32 (n, t) in, `embedding` float32 (n, 384) of unit length out.

    Raises:
        CorruptModel: A tensor is missing.
    """
    try:
        return _Graph(weights).serialize()
    except KeyError as error:
        raise CorruptModel(f"The weights of the sentence encoder lack the tensor {error}.") from None


class _Graph:
    """Collects nodes; every method returns the name of its result."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def serialize(self) -> bytes:
        from onnx import TensorProto, helper

        self._encode()
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"]),
                helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", "t"]),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTH])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        return model.SerializeToString()

    def _encode(self) -> None:
        words = self._op("Gather", self._tensor("embeddings.word_embeddings.weight"), "ids")
        length = self._op("Slice", self._op("Shape", "ids"), *self._ints([1], [2]))
        positions = self._op(
            "Slice",
            self._tensor("embeddings.position_embeddings.weight"),
            *self._ints([0]),
            length,
            *self._ints([0]),
        )
        kind = self._constant(self._weights["embeddings.token_type_embeddings.weight"][0])
        x = self._norm(self._op("Add", self._op("Add", words, positions), kind), "embeddings.LayerNorm")
        # 0 where a token is read, far below every score where it is padding.
        absent = self._op("Sub", self._op("Unsqueeze", "mask", *self._ints([1, 2])), self._number(1.0))
        bias = self._op("Mul", absent, self._number(1e9))
        for layer in range(LAYERS):
            x = self._layer(x, bias, f"encoder.layer.{layer}.")
        present = self._op("Unsqueeze", "mask", *self._ints([2]))
        total = self._op("ReduceSum", self._op("Mul", x, present), *self._ints([1]), keepdims=0)
        mean = self._op("Div", total, self._op("ReduceSum", "mask", *self._ints([1]), keepdims=1))
        self._op("LpNormalization", mean, into="embedding", axis=-1, p=2)

    def _layer(self, x: str, bias: str, name: str) -> str:
        inputs = [f"{name}attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{part}.weight"] for part in inputs]).T
        offset = np.concatenate([self._weights[f"{part}.bias"] for part in inputs])
        joined = self._op("Add", self._op("MatMul", x, self._constant(weight)), self._constant(offset))
        heads = self._op("Reshape", joined, *self._ints([0, 0, 3, HEADS, WIDTH // HEADS]))
        apart = self._op("Transpose", heads, perm=[2, 0, 3, 1, 4])
        query, key, value = (self._op("Gather", apart, self._index(part), axis=0) for part in range(3))
        scores = self._op("MatMul", query, self._op("Transpose", key, perm=[0, 1, 3, 2]))
        scaled = self._op("Mul", scores, self._number((WIDTH / HEADS) ** -0.5))
        attended = self._op("MatMul", self._op("Softmax", self._op("Add", scaled, bias), axis=-1), value)
        merged = self._op("Reshape", self._op("Transpose", attended, perm=[0, 2, 1, 3]), *self._ints([0, 0, WIDTH]))
        x = self._norm(
            self._op("Add", x, self._dense(merged, f"{name}attention.output.dense")),
            f"{name}attention.output.LayerNorm",
        )
        inner = self._op("Gelu", self._dense(x, f"{name}intermediate.dense"))
        return self._norm(self._op("Add", x, self._dense(inner, f"{name}output.dense")), f"{name}output.LayerNorm")

    def _dense(self, x: str, name: str) -> str:
        product = self._op("MatMul", x, self._constant(self._weights[f"{name}.weight"].T))
        return self._op("Add", product, self._tensor(f"{name}.bias"))

    def _norm(self, x: str, name: str) -> str:
        scale, offset = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        return self._op("LayerNormalization", x, scale, offset, axis=-1, epsilon=EPSILON)

    def _op(self, kind: str, *inputs: str, into: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = into or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _tensor(self, name: str) -> str:
        return self._constant(self._weights[name])

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _index(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))

    def _ints(self, *values: list[int]) -> list[str]:
        return [self._constant(np.array(value, np.int64)) for value in values]

    def _constant(self, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name
