"""A router's forecast, computed in the most straightforward way from its saved form: what the fast paths are held to."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.predictors import State, part
from tests.unit.tasks.reference import encode, linear, softmax, trees

Array = np.ndarray[Any, Any]


def forecast(text: str, router: State) -> tuple[Array, Array]:
    """Expected scores and answer lengths in tokens, each of shape (m,)."""
    sparse, embedding, dense = encode(text, part(router, "encoder"))
    memory, arrays = part(router, "memory")[1], part(router, "router")[1]
    prior = softmax(linear(sparse, dense, part(router, "domains"))) @ memory["priors"]
    regression = 1 / (1 + np.exp(-linear(sparse, dense, part(router, "linear"))))
    first = [prior, regression, _recall(embedding, memory, prior)]
    x = np.concatenate([*first, dense, embedding.astype(np.float64)])
    if "trees" in router[0]:
        difficulty, *advantages = trees(x, part(router, "trees"))
        raw = arrays["means"] + difficulty + np.array(advantages)
    else:
        raw = np.mean(first, axis=0)
    tokens = np.exp(trees(x, part(router, "lengths"))) if "lengths" in router[0] else arrays["output_tokens"]
    p = np.clip(raw, 1e-4, 1 - 1e-4)
    calibration = part(router, "calibration")[1]
    return 1 / (1 + np.exp(-(calibration["slope"] * np.log(p / (1 - p)) + calibration["intercept"]))), tokens


def _recall(embedding: Array, memory: dict[str, Array], fallback: Array) -> Array:
    similarity = memory["embeddings"] @ embedding
    nearest = np.argpartition(similarity, max(0, len(similarity) - 40))[-40:]
    mean = fallback.copy()
    for model in range(len(fallback)):
        asked = [(np.exp(8.0 * float(similarity[i])), float(memory["scores"][i, model])) for i in nearest]
        asked = [(weight, score) for weight, score in asked if not np.isnan(score)]
        if asked:
            mean[model] = sum(weight * score for weight, score in asked) / sum(weight for weight, _ in asked)
    return mean
