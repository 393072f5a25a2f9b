"""Records what offline batches cost: one row of usage for each answered request, at the batch's price, however often it is written."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable
from typing import Any, Final

from sqlalchemy.dialects import postgresql, sqlite

from modelyard.catalog.records import BaseModel
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage, now
from modelyard.types import Usage
from modelyard.upstream.offline import PRICE_FACTOR, Batch
from modelyard.upstream.offline_files import BatchResult

ROWS: Final = 500  # written in one transaction


def batch_usage(model: BaseModel, result: BatchResult) -> Usage:
    """Return what one request of a batch used, at the batch's price; a failed one is not charged.

    Tokens that the endpoint did not report are none, and `estimated` says that they were not.
    """
    prompt, completion = result.prompt_tokens or 0, result.completion_tokens or 0
    charged = not result.problem
    cost = PRICE_FACTOR * model.price.cost(prompt, completion) if charged else 0.0
    return Usage(prompt, completion, cost, estimated=charged and result.prompt_tokens is None)


async def record_batch(
    database: Database,
    batch: Batch,
    results: AsyncIterable[BatchResult],
    model: BaseModel,
    *,
    deployment: str | None = None,
    project_id: str | None = None,
) -> float:
    """Store the usage of a batch and return what it cost in USD; writing it again changes nothing.

    Args:
        database: Where to.
        batch: The batch.
        results: Its results, as `OfflineBatches.results` yields them.
        model: The base model that answered; its price counts.
        deployment: Where it answered.
        project_id: For whom.

    Raises:
        StorageError: The database failed; what was stored before stays, and recording again completes it.
        UpstreamError: The results could not be read to their end.
    """
    spent, waiting, at = 0.0, list[dict[str, Any]](), now()
    common = {"model": model.name, "deployment": deployment or model.name, "project_id": project_id, "created_at": at}
    async for result in results:
        used = batch_usage(model, result)
        spent += used.cost_usd
        waiting.append(common | _row(batch, result, used))
        if len(waiting) >= ROWS:
            await asyncio.to_thread(_write, database, waiting)
            waiting = []
    await asyncio.to_thread(_write, database, waiting)
    return spent


def _row(batch: Batch, result: BatchResult, used: Usage) -> dict[str, Any]:
    name = hashlib.blake2b(f"{batch.id}\x00{result.custom_id}".encode(), digest_size=20).hexdigest()
    return {
        "id": f"batch-{name}",
        "kind": "batch",
        "status": "failed" if result.problem else "complete",
        "error_kind": "rejected" if result.problem else None,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cost_usd": used.cost_usd,
        "estimated": used.estimated,
        "latency_ms": 0.0,
    }


def _write(database: Database, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    with database.write() as session:
        on_postgresql = session.get_bind().dialect.name == "postgresql"
        insert = postgresql.insert(ModelUsage) if on_postgresql else sqlite.insert(ModelUsage)
        session.execute(insert.on_conflict_do_nothing(), rows)
