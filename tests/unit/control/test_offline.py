from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from modelyard.catalog.records import BaseModel, Price
from modelyard.control.offline import batch_usage, record_batch
from modelyard.storage import Database
from modelyard.storage.tables import ModelUsage
from modelyard.upstream import Endpoint
from modelyard.upstream.offline import Batch, BatchRequest, OfflineBatches
from modelyard.upstream.offline_files import BatchResult
from tests.unit.upstream.batch_server import batch_server

MODEL = BaseModel("gpt", "openai", Price(input=1.0, output=2.0), base_url="http://127.0.0.1:1/v1")
BATCH = Batch("batch_1", "completed")


async def results(count: int) -> AsyncIterator[BatchResult]:
    for number in range(count):
        yield BatchResult(f"r-{number}", {"choices": []}, status=200, prompt_tokens=1000, completion_tokens=500)


def rows(database: Database) -> list[ModelUsage]:
    with database.read() as session:
        found = list(session.scalars(select(ModelUsage).order_by(ModelUsage.id)))
        session.expunge_all()
    return found


async def test_a_batch_is_charged_at_half_the_price_however_often_it_is_recorded(database: Database):
    for _ in range(2):
        spent = await record_batch(database, BATCH, results(1200), MODEL, project_id="shop")
        assert spent == pytest.approx(1200 * 0.001)
    found = rows(database)
    assert len(found) == 1200
    assert {(row.kind, row.status, row.model, row.project_id) for row in found} == {
        ("batch", "complete", "gpt", "shop")
    }
    assert [row.cost_usd for row in found] == [pytest.approx(0.001)] * 1200


async def test_two_batches_with_the_same_names_inside_are_two(sqlite: Database):
    await record_batch(sqlite, BATCH, results(3), MODEL)
    await record_batch(sqlite, Batch("batch_2", "completed"), results(3), MODEL)
    assert len(rows(sqlite)) == 6


def test_a_failed_request_is_not_charged_and_missing_tokens_are_estimated():
    failed = batch_usage(MODEL, BatchResult("a", problem="It was refused.", status=400))
    assert (failed.cost_usd, failed.estimated) == (0.0, False)
    assert batch_usage(MODEL, BatchResult("a", {"choices": []}, status=200)).estimated


async def test_a_batch_at_an_endpoint_is_recorded_as_it_came(sqlite: Database):
    async with batch_server() as server, OfflineBatches(Endpoint("gpt", server.base_url, "gpt-mini")) as batches:
        texts = {"a": "say yes", "b": "refuse"}
        asked = [BatchRequest(name, {"messages": [{"role": "user", "content": text}]}) for name, text in texts.items()]
        done = await batches.wait((await batches.submit(asked)).id, every_s=0.001)
        await record_batch(sqlite, done, batches.results(done), MODEL, deployment="gpt/east")
    found = {row.status: row for row in rows(sqlite)}
    assert found["complete"].cost_usd == pytest.approx(0.5 * (7 * 1.0 + 1 * 2.0) / 1e6)
    assert (found["failed"].cost_usd, found["failed"].deployment) == (0.0, "gpt/east")
