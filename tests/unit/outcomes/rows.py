"""A small outcome table to break."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

PROMPTS = {"p1": "How do I centre a div?", "p2": "Why?", "p3": "Fetch this: " + "x" * 88}


def columns(**changes: Any) -> dict[str, Any]:
    """Two models, three prompts; `big` did not answer p3."""
    ids = ["p1", "p1", "p2", "p2", "p3"]
    return {
        "prompt_id": ids,
        "dataset": ["made-up"] * 5,
        "domain": ["css", "css", "chat", "chat", "data"],
        "prompt": [PROMPTS[name] for name in ids],
        "model": ["small", "big", "small", "big", "small"],
        "score": [0.25, 1.0, 0.5, 0.75, 0.0],
    } | changes


def outcomes(**changes: Any) -> pa.Table:
    return pa.table({name: values for name, values in columns(**changes).items() if values is not None})
