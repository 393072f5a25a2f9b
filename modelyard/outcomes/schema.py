"""The columns of an outcome table."""

from __future__ import annotations

import pyarrow as pa

REQUIRED = ("prompt_id", "dataset", "domain", "prompt", "model", "score")
OPTIONAL = ("cost_usd", "latency_ms", "output_chars", "response")

SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("cost_usd", pa.float64()),
        pa.field("latency_ms", pa.float64()),
        pa.field("output_chars", pa.float64()),
        pa.field("response", pa.string()),
    ]
)
