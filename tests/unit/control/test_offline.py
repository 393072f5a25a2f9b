from __future__ import annotations

import pytest
from sqlalchemy import select

from modelyard.catalog.records import BaseModel, Price
from modelyard.control.offline import Charged, batch_usage, most, prompt_tokens, record, row_id
from modelyard.storage import Database
from modelyard.storage.tables import ModelUsage
from modelyard.upstream.offline_files import BatchRequest, BatchResult

MODEL = BaseModel("gpt", "openai", Price(1.0, 2.0, cached_input=0.5), base_url="http://127.0.0.1:1/v1")
HELLO = [{"role": "user", "content": "x" * 40}]


def charged(batch: str, count: int, factor: float = 0.5) -> list[Charged]:
    found = [BatchResult(f"r-{n}", {}, "", 200, 1000, 500, 400) for n in range(count)]
    return [
        Charged(row_id(batch, result.custom_id), result, batch_usage(MODEL, result, factor), "gpt/east", factor)
        for result in found
    ]


def rows(database: Database) -> list[ModelUsage]:
    with database.read() as session:
        found = list(session.scalars(select(ModelUsage).order_by(ModelUsage.id)))
        session.expunge_all()
    return found


async def test_a_batch_is_recorded_once_however_often_it_is_written(database: Database):
    for _ in range(2):
        await record(database, charged("batch_1", 1200), MODEL, project_id="shop")
    found = rows(database)
    assert len(found) == 1200
    assert {(row.kind, row.status, row.model, row.deployment, row.project_id) for row in found} == {
        ("batch", "complete", "gpt", "gpt/east", "shop")
    }
    # Half of 600 tokens at 1 USD a million, 400 cached ones at 0.5 and 500 written ones at 2.
    assert [row.cost_usd for row in found] == [pytest.approx(0.0009)] * 1200
    assert {row.cached_tokens for row in found} == {400}


async def test_two_batches_with_the_same_names_inside_are_two(sqlite: Database):
    await record(sqlite, charged("batch_1", 3), MODEL)
    await record(sqlite, charged("batch_2", 3), MODEL)
    assert len(rows(sqlite)) == 6


def test_the_price_is_the_deployments():
    assert charged("b", 1, 1.0)[0].usage.cost_usd == pytest.approx(0.0018)
    assert charged("b", 1, 0.25)[0].usage.cost_usd == pytest.approx(0.00045)


def test_a_failed_request_is_not_charged():
    failed = batch_usage(MODEL, BatchResult("a", problem="It was refused.", status=400), 0.5)
    assert (failed.cost_usd, failed.total_tokens, failed.estimated) == (0.0, 0, False)


def test_tokens_that_were_not_reported_are_estimated_from_the_texts():
    body = {"choices": [{"message": {"content": "y" * 20}}]}
    usage = batch_usage(MODEL, BatchResult("a", body, status=200), 0.5, BatchRequest("a", {"messages": HELLO}))
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (15, 5, True)
    assert usage.cost_usd == pytest.approx(0.5 * (15 + 10) / 1e6)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": HELLO}, 15),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 40}, {"type": "image_url"}]}]}, 815),
        ({"messages": HELLO, "tools": ["x" * 40]}, 28),
        ({"messages": ["odd", 7]}, 9),
        ({"input": ["x" * 40, "y" * 40]}, 20),
    ],
)
def test_a_prompt_is_estimated_with_all_that_a_model_reads(body: dict[str, object], tokens: int):
    assert prompt_tokens(body) == tokens


@pytest.mark.parametrize(
    ("asked", "written"),
    [({}, 1000), ({"max_tokens": 10}, 10), ({"max_completion_tokens": 7, "n": 3}, 21), ({"max_tokens": "x"}, 1000)],
)
def test_the_most_counts_full_length_answers(asked: dict[str, object], written: int):
    request = BatchRequest("a", {"messages": HELLO, **asked})
    assert most(MODEL, request, 0.5) == pytest.approx(0.5 * (15 + 2 * written) / 1e6)
