"""What offline batches cost: one row of usage for each answered request, at the batch's price, however often it is written."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, cast

from sqlalchemy.dialects import postgresql, sqlite

from modelyard.catalog.records import BaseModel
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage, now
from modelyard.types import Usage, estimate_tokens
from modelyard.upstream.offline_files import BatchRequest, BatchResult, mapping
from modelyard.upstream.sharing import estimated_tokens, inputs_of
from modelyard.upstream.wire import encode

ROWS: Final = 500  # written in one transaction
TURN_TOKENS: Final = 4  # what a turn's role and separators take, about
IMAGE_TOKENS: Final = 800  # what a part that is no text takes, about
LONGEST_ANSWER: Final = 4  # times the typical length, where neither request nor model says
PROMPTED: Final = ("tools", "functions", "response_format")  # what a model reads as part of its prompt


@dataclass(frozen=True, slots=True)
class Charged:
    """One request of a batch that has ended, and what it cost.

    Attributes:
        id: Of its row; the same whenever the same result is read.
        result: What came of it.
        usage: What is charged; nothing where it failed.
        deployment: Where it was answered.
        price_factor: What it cost beside a call at once.
    """

    id: str
    result: BatchResult
    usage: Usage
    deployment: str
    price_factor: float = 1.0


def row_id(batch_id: str, custom_id: str) -> str:
    """Return the id of a request's row, which is its own in all batches."""
    name = f"{batch_id}\x00{custom_id}"
    return f"batch-{hashlib.blake2b(name.encode(), digest_size=20).hexdigest()}"


def batch_usage(model: BaseModel, result: BatchResult, factor: float, request: BatchRequest | None = None) -> Usage:
    """Return what one request of a batch used, at so many times the model's price; a failed one is not charged.

    Tokens that the endpoint did not report are estimated from the texts, as far as the request is known.
    """
    if result.problem:
        return Usage(0, 0, 0.0, estimated=False)
    prompt, written, cached = result.prompt_tokens, result.completion_tokens, result.cached_tokens
    estimated = prompt is None or written is None
    if prompt is None or written is None:
        prompt = 0 if request is None else prompt_tokens(request.body)
        written, cached = ceil(estimate_tokens(len(_text(result.body)))), 0
    cost = factor * model.price.cost(prompt, written, cached)
    return Usage(prompt, written, cost, estimated=estimated, cached_tokens=cached)


def most(model: BaseModel, request: BatchRequest, factor: float) -> float:
    """Return the most in USD that a request can be expected to cost: full-length answers, as many as it asks for."""
    body, written = request.body, 0
    if model.drafts:
        longest = model.max_output_tokens or LONGEST_ANSWER * model.output_tokens
        limit = _count(body.get("max_completion_tokens")) or _count(body.get("max_tokens")) or longest
        written = limit * (_count(body.get("n")) or 1)
    return factor * model.price.cost(prompt_tokens(body), written)


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the tokens of a request's conversation, or of its inputs."""
    if "messages" not in body:
        return estimated_tokens(inputs_of(body))
    chars, tokens = len(encode({name: body[name] for name in PROMPTED if name in body})), 0
    for message in cast("list[Any]", body["messages"]):
        content = mapping(message).get("content")
        parts = [mapping(part) for part in cast("list[Any]", content)] if isinstance(content, list) else []
        texts = [content, *(part.get("text") for part in parts)]
        chars += sum(len(text) for text in texts if isinstance(text, str))
        tokens += TURN_TOKENS + IMAGE_TOKENS * sum("text" not in part for part in parts)
    return tokens + ceil(estimate_tokens(chars))


async def record(
    database: Database, charged: Sequence[Charged], model: BaseModel, *, project_id: str | None = None
) -> None:
    """Store the usage of requests of a batch; storing it again changes nothing.

    Raises:
        StorageError: The database failed; what was stored before stays, and recording again completes it.
    """
    common = {"model": model.name, "project_id": project_id, "kind": "batch", "latency_ms": 0.0, "created_at": now()}
    rows = [common | _row(one) for one in charged]
    for start in range(0, len(rows), ROWS):
        await asyncio.to_thread(_write, database, rows[start : start + ROWS])


def _row(charged: Charged) -> dict[str, Any]:
    usage, failed = charged.usage, bool(charged.result.problem)
    return {
        "id": charged.id,
        "deployment": charged.deployment,
        "status": "failed" if failed else "complete",
        "error_kind": "rejected" if failed else None,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_usd": usage.cost_usd,
        "estimated": usage.estimated,
    }


def _write(database: Database, rows: list[dict[str, Any]]) -> None:
    with database.write() as session:
        on_postgresql = session.get_bind().dialect.name == "postgresql"
        insert = postgresql.insert(ModelUsage) if on_postgresql else sqlite.insert(ModelUsage)
        session.execute(insert.on_conflict_do_nothing(), rows)


def _text(body: Mapping[str, Any]) -> str:
    """Return the texts of a completion's choices."""
    choices = body.get("choices")
    found = cast("list[Any]", choices) if isinstance(choices, list) else []
    contents = [mapping(mapping(choice).get("message")).get("content") for choice in found]
    return "".join(content for content in contents if isinstance(content, str))


def _count(value: object) -> int:
    """Return a number above 0, or 0 where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
