from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from modelyard.errors import InvalidInput, UpstreamError
from modelyard.upstream import Endpoint
from modelyard.upstream.offline import BatchRequest, BatchResult, OfflineBatches
from modelyard.upstream.offline_files import MOST_REQUESTS, batch_file, read_result
from tests.unit.upstream.batch_server import BatchServer, batch_server


def ask(name: str, text: str) -> BatchRequest:
    return BatchRequest(name, {"messages": [{"role": "user", "content": text}]})


@asynccontextmanager
async def serving(api_key_env: str | None = None) -> AsyncIterator[tuple[OfflineBatches, BatchServer]]:
    async with (
        batch_server() as server,
        OfflineBatches(Endpoint("gpt", server.base_url, "gpt-mini", api_key_env), timeout_s=10) as batches,
    ):
        yield batches, server


async def all_results(batches: OfflineBatches, batch_id: str) -> dict[str, BatchResult]:
    return {result.custom_id: result async for result in batches.results(await batches.wait(batch_id, every_s=0.001))}


async def test_a_batch_goes_its_whole_way():
    async with serving() as (batches, server):
        started = await batches.submit([ask("a", "say yes"), ask("b", "say no")])
        assert (started.status, started.ended) == ("validating", False)

        done = await batches.wait(started.id, every_s=0.001)
        assert (done.status, done.total, done.completed, done.failed) == ("completed", 2, 2, 0)

        results = await all_results(batches, started.id)
        assert {name: found.body["choices"][0]["message"]["content"] for name, found in results.items()} == {
            "a": "yes",
            "b": "no",
        }
        assert (results["a"].prompt_tokens, results["a"].completion_tokens) == (7, 1)
        lines = [json.loads(line) for line in server.files["file-0"].splitlines()]
        assert [line["body"]["model"] for line in lines] == ["gpt-mini"] * 2
        assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}


async def test_cached_tokens_are_read_and_tokens_that_cannot_be_are_none():
    async with serving() as (batches, _):
        started = await batches.submit([ask("a", "cached say yes")])
        found = (await all_results(batches, started.id))["a"]
        assert (found.prompt_tokens, found.cached_tokens) == (14, 4)
    for usage in (
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 10**18},
        {"prompt_tokens": "9"},
        None,
    ):
        line = {"custom_id": "a", "response": {"status_code": 200, "body": {"usage": usage}}}
        result = read_result(Endpoint("gpt", "http://x/v1", "m"), json.dumps(line).encode())
        assert (result.prompt_tokens, result.completion_tokens) == (None, None)


async def test_failed_requests_say_why_and_the_others_are_answered():
    async with serving() as (batches, _):
        started = await batches.submit([ask("a", "say yes"), ask("b", "refuse"), ask("c", "expire")])
        results = await all_results(batches, started.id)
        assert (results["a"].problem, results["b"].problem, results["c"].problem) == (
            "",
            "It was refused.",
            "It ran out of time.",
        )
        assert (results["b"].status, results["b"].prompt_tokens) == (400, None)


async def test_waiting_bears_a_few_failures_that_may_pass():
    async with serving() as (batches, server):
        started = await batches.submit([ask("a", "say yes")])
        server.faults = [(500, "oh"), (429, "slow down"), (503, "busy")]
        assert (await batches.wait(started.id, every_s=0.001)).status == "completed"


async def test_waiting_ends_with_failures_that_will_not_pass_or_that_stay():
    async with serving() as (batches, server):
        with pytest.raises(UpstreamError, match="status 404") as caught:
            await batches.wait("batch_9", every_s=0.001)
        assert caught.value.status == 404
        assert "No such batch" in caught.value.in_full
        server.faults = [(500, "oh")] * 20
        with pytest.raises(UpstreamError, match="status 500"):
            await batches.wait("batch_9", every_s=0.001)
        assert len(server.faults) == 10


async def test_a_cancelled_batch_has_ended():
    async with serving() as (batches, _):
        started = await batches.submit([ask("a", "say yes")])
        assert (await batches.cancel(started.id)).ended
        assert (await batches.wait(started.id, every_s=0.001)).status == "cancelled"


async def test_the_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BATCH_KEY", "sk-secret")
    async with serving("BATCH_KEY") as (batches, server):
        server.faults = [(401, "wrong key sk-secret")]
        with pytest.raises(UpstreamError) as caught:
            await batches.poll("batch_1")
        assert "sk-secret" not in str(caught.value)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("line", [b"not json", b"[]", b'{"response": null}'])
async def test_a_result_that_is_none_is_an_error(line: bytes):
    async with serving() as (batches, server):
        server.broken_line = line
        started = await batches.submit([ask("a", "say yes")])
        with pytest.raises(UpstreamError, match="'gpt' at"):
            await all_results(batches, started.id)


async def test_an_endpoint_that_is_not_there_is_said_to_be_unreachable():
    async with OfflineBatches(Endpoint("gpt", "http://127.0.0.1:1/v1", "m"), timeout_s=10) as batches:
        with pytest.raises(UpstreamError, match="cannot be reached") as caught:
            await batches.poll("batch_1")
        assert (caught.value.kind, caught.value.retryable) == ("connect", True)


async def test_a_metadata_address_is_never_called():
    async with OfflineBatches(Endpoint("gpt", "http://169.254.169.254/v1", "m"), timeout_s=10) as batches:
        with pytest.raises(UpstreamError, match="link-local or metadata address") as caught:
            await batches.poll("batch_1")
        assert not caught.value.retryable


@pytest.mark.parametrize("identifier", ["", "../secrets", "a/b", "a?b", "a b", ".."])
async def test_an_identifier_cannot_leave_its_place_in_the_path(identifier: str):
    async with OfflineBatches(Endpoint("gpt", "http://127.0.0.1:1/v1", "m")) as batches:
        with pytest.raises(InvalidInput, match="identifier"):
            await batches.poll(identifier)


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], "at least one request"),
        ([ask("a", "x"), ask("a", "y")], "custom_id of its own, but got 'a'"),
        ([ask("", "x")], "custom_id of its own"),
        ([BatchRequest("a", {"stream": True})], "cannot stream"),
    ],
)
def test_a_batch_needs_whole_requests_of_different_names(requests: list[BatchRequest], reason: str):
    with pytest.raises(InvalidInput, match=reason):
        batch_file(requests, "m", "/v1/chat/completions")


def test_a_batch_has_a_most_of_requests():
    many = (ask(str(n), "x") for n in range(MOST_REQUESTS + 1))
    with pytest.raises(InvalidInput, match="at most 50000 requests"):
        batch_file(many, "m", "/v1/chat/completions")
