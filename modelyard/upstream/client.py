"""The client of the hot path: one attempt a call, and one `UpstreamError` for every way in which it can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from modelyard.settings import Settings
from modelyard.types import Delta
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.streaming import StreamedAnswer
from modelyard.upstream.timing import Timeouts, Watch
from modelyard.upstream.transport import BROKEN, LONGEST_ANSWER, Transport, fault, let_linger, read
from modelyard.upstream.wire import Completion, completion, decode, encode

FAREWELL_S: Final = 2.0  # how long usage and end mark may take after the finish reason
_NO_LIST: Final = frozenset({200, 404, 405})  # an endpoint without a list of models is alive


@dataclass(frozen=True, slots=True)
class Retries:
    """How whoever calls an upstream should try again; times in seconds. An upstream's own Retry-After comes first.

    Attributes:
        attempts: Calls of one model, at most.
        wait_initial_s: Upper end of the first wait, which is drawn between 0 and it; it doubles with each further one.
        wait_max_s: Longest wait, an upstream's Retry-After included.
        grace_s: Longest wait for one model while another could be called, and, once, where every deployment rests.
        most: Calls for one answer, of all models together.
        total_s: Longest time until an answer begins; None takes twice the client's timeout.
    """

    attempts: int = 3
    wait_initial_s: float = 0.2
    wait_max_s: float = 5.0
    grace_s: float = 1.0
    most: int = 10
    total_s: float | None = None


class Upstream:
    """Calls OpenAI-compatible endpoints, once a call: who calls decides what a failure means.

    It serves one event loop at a time, and closes its connections with `close` or when that loop shuts down.

    Args:
        timeout_s: Longest time for one call, where its endpoint does not say.
        retries: What callers that try again should keep to.
        timeouts: Instead of those derived from `timeout_s`.
    """

    def __init__(
        self, timeout_s: float = 60.0, retries: Retries | None = None, *, timeouts: Timeouts | None = None
    ) -> None:
        self.timeouts = timeouts or Timeouts.of(timeout_s)
        self.retries = retries or Retries()
        self._transport = Transport(self.timeouts.connect_s)

    @classmethod
    def from_settings(cls, settings: Settings) -> Upstream:
        """Return a client with the timeout that the settings name."""
        return cls(settings.upstream_timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pooled connections; a later call opens new ones."""
        await self._transport.close()

    async def complete(
        self, endpoint: Endpoint, body: Mapping[str, Any], *, within_s: float | None = None
    ) -> Completion:
        """Return the whole answer to a chat request.

        Args:
            endpoint: Where to; its model's name takes the place of the body's.
            body: The request, without `stream`.
            within_s: A narrower limit than the timeouts'.

        Raises:
            UpstreamError: The endpoint failed, or gave nothing.
            InvalidInput: The body cannot be passed on.
        """
        return completion(endpoint, await self._whole(endpoint, "/chat/completions", body, within_s))

    async def answer(self, endpoint: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to a chat request as it came, with every choice.

        Raises:
            UpstreamError: The endpoint failed, or its answer holds no list `choices`.
            InvalidInput: The body cannot be passed on.
        """
        return await self._listed(endpoint, "/chat/completions", body, "choices")

    async def embed(self, endpoint: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to an embeddings request.

        Raises:
            UpstreamError: The endpoint failed, or its answer holds no list `data`.
            InvalidInput: The body cannot be passed on.
        """
        return await self._listed(endpoint, "/embeddings", body, "data")

    async def moderate(self, endpoint: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response to a moderations request.

        Raises:
            UpstreamError: The endpoint failed, or its answer holds no list `results`.
            InvalidInput: The body cannot be passed on.
        """
        return await self._listed(endpoint, "/moderations", body, "results")

    async def probe(self, endpoint: Endpoint, timeout_s: float = 5.0) -> float:
        """Ask for the list of models and return how long that took in milliseconds.

        Raises:
            UpstreamError: There was no answer, or a refusal.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(timeout_s):
                await read(endpoint, await self._transport.get(endpoint, "/models", *_NO_LIST))
        except BROKEN as error:
            raise fault(endpoint, error, timeout_s) from error
        return (clock() - started) * 1000

    async def stream(
        self, endpoint: Endpoint, body: Mapping[str, Any], *, within_s: float | None = None
    ) -> AsyncGenerator[Delta | Completion]:
        """Yield what a streamed answer holds piece by piece, and the whole `Completion` last.

        Closing the generator closes the connection at once.

        Args:
            endpoint: Where to; its model's name takes the place of the body's.
            body: The request, without `stream`.
            within_s: A narrower limit for the first piece than the timeouts'.

        Raises:
            UpstreamError: The endpoint failed, gave nothing, or ended its stream without its end (kind `cut`).
            InvalidInput: The body cannot be passed on.
        """
        times, clock = self._times(endpoint), asyncio.get_running_loop().time
        started, first_s = clock(), _least(times.first_token_s, within_s)
        response = await self._opened(endpoint, body, first_s)
        if response.content_type == "application/json":  # asked to stream, it answers whole
            whole = completion(endpoint, await self._rest(endpoint, response, first_s))
            yield Delta(whole.text, whole.fields, extras=whole.extras or None)
            yield whole
            return
        answer, size, ended = StreamedAnswer(endpoint), 0, False
        watch = Watch(response, times, started, started + first_s)
        try:
            while not answer.done:
                watch.waiting_since = clock()
                chunk = await _next_chunk(endpoint, response, answer, watch)
                watch.waiting_since = None
                size += len(chunk)
                if size > LONGEST_ANSWER:
                    raise endpoint.error(f"sent a stream of more than {LONGEST_ANSWER} bytes")
                for delta in answer.feed(chunk):
                    watch.begun = True
                    yield delta
                if not chunk:
                    break
                if answer.finish_reason is not None:
                    watch.let_end(FAREWELL_S)
            whole = answer.finish()
            ended = answer.done
        finally:
            watch.stop()
            if ended:
                let_linger(response)
            else:
                response.close()
        yield whole

    def _times(self, endpoint: Endpoint) -> Timeouts:
        return self.timeouts if endpoint.timeout_s is None else _timeouts(endpoint.timeout_s)

    async def _whole(self, endpoint: Endpoint, path: str, body: Mapping[str, Any], within_s: float | None) -> bytes:
        data = encode({**body, "model": endpoint.model})
        total_s = _least(self._times(endpoint).total_s, within_s)
        try:
            async with asyncio.timeout(total_s):
                return await read(endpoint, await self._transport.post(endpoint, path, data))
        except BROKEN as error:
            raise fault(endpoint, error, total_s) from error

    async def _listed(self, endpoint: Endpoint, path: str, body: Mapping[str, Any], entries: str) -> dict[str, Any]:
        answer = decode(endpoint, await self._whole(endpoint, path, body, None))
        if not isinstance(answer.get(entries), list):
            raise endpoint.error(f"gave an answer without {entries}")
        return answer

    async def _opened(self, endpoint: Endpoint, body: Mapping[str, Any], within_s: float) -> aiohttp.ClientResponse:
        options = {**(body.get("stream_options") or {}), "include_usage": True}
        data = encode({**body, "model": endpoint.model, "stream": True, "stream_options": options})
        try:
            async with asyncio.timeout(within_s):
                return await self._transport.post(endpoint, "/chat/completions", data)
        except BROKEN as error:
            raise fault(endpoint, error, within_s) from error

    async def _rest(self, endpoint: Endpoint, response: aiohttp.ClientResponse, within_s: float) -> bytes:
        try:
            async with asyncio.timeout(within_s):
                return await read(endpoint, response)
        except BROKEN as error:
            raise fault(endpoint, error, within_s) from error


async def _next_chunk(
    endpoint: Endpoint, response: aiohttp.ClientResponse, answer: StreamedAnswer, watch: Watch
) -> bytes:
    """Return the next bytes of a stream, b"" at its end: where it breaks after its finish reason, that is its end."""
    try:
        return await response.content.readany()
    except BROKEN as error:
        if answer.finish_reason is not None:
            return b""
        if watch.expired is not None:
            raise endpoint.error(watch.expired, kind="timeout") from error
        raise fault(endpoint, error, 0.0) from error


def _least(limit_s: float, within_s: float | None) -> float:
    return limit_s if within_s is None else min(limit_s, within_s)


@lru_cache(maxsize=256)
def _timeouts(timeout_s: float) -> Timeouts:
    return Timeouts.of(timeout_s)
