"""Offline batches: many requests as one file, answered within a day at a lower price (OpenAI's `/v1/files` and `/v1/batches`).

A batch lives at the endpoint: whoever knows its id can poll it and read its results, also after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast

import aiohttp
import orjson

from modelyard.errors import InvalidInput, UpstreamError
from modelyard.upstream.addresses import open_socket
from modelyard.upstream.endpoint import Endpoint, error_parts
from modelyard.upstream.faults import retry_after
from modelyard.upstream.offline_files import (
    BatchPath,
    BatchRequest,
    BatchResult,
    batch_file,
    count,
    json_object,
    mapping,
    read_result,
)
from modelyard.upstream.transport import BROKEN, fault

LONGEST_LINE: Final = 1 << 24  # bytes of one result; a line that never ends must not fill the memory
LONGEST_ANSWER: Final = 1 << 20  # bytes of a description of a file or batch
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
MOST_FAILED_POLLS: Final = 10  # in a row, before waiting is given up


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch stands.

    Attributes:
        id: The endpoint's name for it.
        status: `validating`, `in_progress`, `finalizing`, `completed`, `failed`, `expired`, `cancelling` or `cancelled`.
        total: Requests in it, 0 until they were counted.
        completed: Those that were answered.
        failed: Those that were not.
        files: The files of its results and of its errors, as far as there are any.
        problem: What the endpoint says is wrong with the batch as a whole, or the empty string.
    """

    id: str
    status: str
    total: int = 0
    completed: int = 0
    failed: int = 0
    files: tuple[str, ...] = ()
    problem: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class OfflineBatches:
    """The batches of one endpoint; use it as an async context, which closes its connections.

    Args:
        endpoint: Where the batches are answered, and by which model.
        timeout_s: Longest time of one HTTP call without a byte coming in.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 60.0) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(socket_factory=open_socket)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def submit(self, requests: Iterable[BatchRequest], *, path: BatchPath = "/v1/chat/completions") -> Batch:
        """Upload the requests and start a batch of them.

        Raises:
            InvalidInput: There are none, too many or too long ones, or two have the same `custom_id`.
            UpstreamError: The endpoint failed.
        """
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        lines = batch_file(requests, self._endpoint.model, path)
        form.add_field("file", lines, filename="batch.jsonl", content_type="application/jsonl")
        uploaded = await self._described("POST", "files", data=form)
        asked = {"input_file_id": uploaded["id"], "endpoint": path, "completion_window": "24h"}
        return _batch(await self._described("POST", "batches", json=asked))

    async def poll(self, batch_id: str) -> Batch:
        """Return how a batch stands.

        Raises:
            UpstreamError: The endpoint failed, or knows no such batch.
        """
        return _batch(await self._described("GET", f"batches/{_safe(batch_id)}"))

    async def cancel(self, batch_id: str) -> Batch:
        """Stop a batch; what was answered already is kept, and charged.

        Raises:
            UpstreamError: The endpoint failed, or the batch has ended.
        """
        return _batch(await self._described("POST", f"batches/{_safe(batch_id)}/cancel"))

    async def wait(
        self, batch_id: str, *, every_s: float = 30.0, seen: Callable[[Batch], object] = lambda _: None
    ) -> Batch:
        """Poll until the batch has ended, and tell `seen` of each look; failures that may pass are borne a few times.

        Raises:
            UpstreamError: The endpoint failed in a way that will not pass, or too often in a row.
        """
        failures = 0
        while True:
            pause_s = every_s
            try:
                batch = await self.poll(batch_id)
            except UpstreamError as error:
                failures += 1
                if not error.retryable or failures >= MOST_FAILED_POLLS:
                    raise
                pause_s = max(every_s, error.retry_after_s or 0.0)
            else:
                failures = 0
                seen(batch)
                if batch.ended:
                    return batch
            await asyncio.sleep(pause_s)

    async def results(self, batch: Batch) -> AsyncGenerator[BatchResult]:
        """Yield the results, in no particular order, answered ones first; requests that were never started have none.

        Raises:
            UpstreamError: The endpoint failed, or sent something else.
        """
        for file in batch.files:
            async with self._open("GET", f"files/{_safe(file)}/content") as response:
                async for line in self._lines(response):
                    yield read_result(self._endpoint, line)

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        pending = bytearray()
        async for chunk in response.content.iter_any():
            pending += chunk
            if b"\n" in chunk:
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    if line.strip():
                        yield bytes(line)
            if len(pending) > LONGEST_LINE:
                raise self._endpoint.error(f"sent a batch result of more than {LONGEST_LINE} bytes")
        if pending.strip():
            yield bytes(pending)

    async def _described(self, method: str, path: str, **content: Any) -> Mapping[str, Any]:
        """Call and return the JSON object that describes a file or batch; it has an `id`."""
        async with self._open(method, path, **content) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LONGEST_ANSWER:
                    raise self._endpoint.error(f"described a batch in more than {LONGEST_ANSWER} bytes")
        found = json_object(self._endpoint, bytes(body))
        if not isinstance(found.get("id"), str):
            raise self._endpoint.error("described a batch without an id")
        return found

    @asynccontextmanager
    async def _open(self, method: str, path: str, **content: Any) -> AsyncGenerator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("OfflineBatches is used outside of its context: async with OfflineBatches(…) as batches")
        url = f"{self._endpoint.base_url.rstrip('/')}/{path}"
        headers = self._endpoint.headers()
        try:
            async with self._session.request(
                method, url, headers=headers, allow_redirects=False, **content
            ) as response:
                if response.status != 200:
                    raise await self._refused(response)
                yield response
        except BROKEN as error:
            raise fault(self._endpoint, error, self._timeout_s) from error

    async def _refused(self, response: aiohttp.ClientResponse) -> UpstreamError:
        body = bytes(await response.content.read(LONGEST_ANSWER))
        try:
            code, detail = error_parts(mapping(orjson.loads(body)).get("error"))
        except ValueError:
            code, detail = "", ""
        after_s = retry_after(response.headers.get("Retry-After", ""))
        return self._endpoint.refused(response.status, detail, code=code, retry_after_s=after_s)


def _batch(found: Mapping[str, Any]) -> Batch:
    counts = mapping(found.get("request_counts"))
    errors = mapping(found.get("errors")).get("data")
    problems = cast("list[Any]", errors) if isinstance(errors, list) else []
    files = (found.get("output_file_id"), found.get("error_file_id"))
    return Batch(
        id=found["id"],
        status=str(found.get("status", "")),
        total=count(counts.get("total")) or 0,
        completed=count(counts.get("completed")) or 0,
        failed=count(counts.get("failed")) or 0,
        files=tuple(file for file in files if isinstance(file, str)),
        problem=" ".join(str(mapping(problem).get("message", "")) for problem in problems).strip(),
    )


def _safe(identifier: str) -> str:
    """Return an identifier that goes into a path, or refuse it.

    Raises:
        InvalidInput: It holds more than letters, digits, `_`, `-` and `.`.
    """
    if not identifier.replace("_", "").replace("-", "").replace(".", "").isalnum() or ".." in identifier:
        raise InvalidInput(
            f"An identifier of a batch or file holds letters, digits, '_', '-' and '.', got {identifier!r}."
        )
    return identifier
