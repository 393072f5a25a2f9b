"""An embeddings or moderations request as spans: the request, and each call of a deployment below it; see `spans`."""

from __future__ import annotations

from typing import Final

from modelyard.serving.reports import EndedInputs
from modelyard.serving.spans import PROVIDER, Outline, Value, calls
from modelyard.types import fell_back

OPERATIONS: Final = {"embedding": "embeddings", "moderation": "moderations"}


def outline_inputs(request: EndedInputs) -> list[Outline]:
    """Return the request's spans, parents before children; what was sent is not in them."""
    operation = OPERATIONS[request.kind]
    start_ns = request.ended_ns - round(request.ms * 1e6)
    failed = request.failure is not None and request.failure.ours
    root = Outline(
        f"{operation} {request.model}", "server", start_ns, request.ended_ns, None, _about(request, operation), failed
    )
    return [root, *calls(request.attempts, start_ns, request.ended_ns, 0, operation)]


def _about(request: EndedInputs, operation: str) -> dict[str, Value]:
    about: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": request.model,
        "gen_ai.response.model": request.model,
        "gen_ai.response.id": request.id,
        "gen_ai.usage.input_tokens": request.usage.prompt_tokens,
        "modelyard.cost_usd": request.usage.cost_usd,
        "modelyard.usage.estimated": request.usage.estimated,
        "modelyard.fell_back": fell_back(request.attempts),
        "modelyard.cache_hit": request.cache_hit,
        "modelyard.attempts": len(request.attempts),
    }
    if request.request_id is not None:
        about["modelyard.request_id"] = request.request_id
    if request.failure is not None:
        about["error.type"] = request.failure.kind
    return about
