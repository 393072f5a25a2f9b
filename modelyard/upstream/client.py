"""The HTTP client of the hot path: one pooled aiohttp session, retries before the first token, never after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import stamina

from modelyard.errors import UpstreamError
from modelyard.settings import Settings
from modelyard.types import Turn
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.wire import DONE, Completion, StreamedAnswer, completion, error_message, events, payload

CONNECTIONS = 256
ERROR_BODY = 64 * 1024  # bytes of an error's body that are read

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a failed call is made again; seconds. An upstream's own Retry-After comes first."""

    attempts: int = 3
    wait_initial_s: float = 0.2
    wait_max_s: float = 5.0
    wait_jitter_s: float = 0.5


class _RetryLater(UpstreamError):
    """An upstream error that says itself when to come back."""

    def __init__(self, error: UpstreamError, after_s: float) -> None:
        super().__init__(str(error), status=error.status, retryable=True)
        self.after_s = after_s


class Upstream:
    """Calls OpenAI-compatible endpoints.

    It serves one event loop at a time, and closes its connections with `close` or when that loop shuts down.

    Args:
        timeout_s: Longest time for one call, its retries included.
        retries: How failed calls are made again: on 429, on 5xx, and where no connection came about or held.
    """

    def __init__(self, timeout_s: float = 60.0, retries: Retries | None = None) -> None:
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._held: AsyncGenerator[aiohttp.ClientSession] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

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
        held, self._held, self._session = self._held, None, None
        if held is not None and self._loop is asyncio.get_running_loop():
            await held.aclose()

    async def complete(self, endpoint: Endpoint, turns: Sequence[Turn]) -> Completion:
        """Return the whole answer.

        Raises:
            UpstreamError: The endpoint failed, after retries where these make sense, or gave no text.
        """
        headers, body = endpoint.headers(), payload(endpoint, turns, stream=False)

        async def attempt(remaining_s: float) -> Completion:
            response = await self._open(endpoint, headers, body, remaining_s)
            async with response:
                return completion(endpoint, await response.text("utf-8", "replace"))

        return await self._with_retries(endpoint, attempt)

    async def stream(self, endpoint: Endpoint, turns: Sequence[Turn]) -> AsyncGenerator[str | Completion]:
        """Yield pieces of text as they come and the whole `Completion` last.

        Raises:
            UpstreamError: The endpoint failed; after the first piece of text nothing is tried again.
        """
        headers, body = endpoint.headers(), payload(endpoint, turns, stream=True)
        response = await self._with_retries(
            endpoint, lambda remaining_s: self._open(endpoint, headers, body, remaining_s)
        )
        answer, done = StreamedAnswer(endpoint), False
        try:
            async for data in events(endpoint, response.content.iter_any()):
                done = data.strip() == DONE
                if done:
                    break
                if text := answer.take(data):
                    yield text
        except (aiohttp.ClientError, TimeoutError) as error:
            # Everything that matters may have come before the connection broke.
            if answer.finish_reason is None:
                raise _broken(endpoint, error, self._timeout_s) from error
        finally:
            response.release()
        yield answer.finish(done=done)

    async def _with_retries(self, endpoint: Endpoint, attempt: Callable[[float], Awaitable[_Result]]) -> _Result:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_s

        def backoff(error: Exception) -> bool | float:
            if isinstance(error, _RetryLater):
                return error.after_s if clock() + error.after_s < deadline else False
            return isinstance(error, UpstreamError) and error.retryable and clock() < deadline

        async for again in stamina.retry_context(
            on=backoff,
            attempts=self._retries.attempts,
            timeout=self._timeout_s,
            wait_initial=self._retries.wait_initial_s,
            wait_max=self._retries.wait_max_s,
            wait_jitter=self._retries.wait_jitter_s,
        ):
            with again:
                try:
                    return await attempt(max(deadline - clock(), 0.001))
                except (aiohttp.ClientError, TimeoutError) as error:
                    raise _broken(endpoint, error, self._timeout_s) from error
        raise endpoint.error("was never called")  # unreachable: stamina raises the last attempt's error

    async def _open(
        self, endpoint: Endpoint, headers: dict[str, str], body: dict[str, object], remaining_s: float
    ) -> aiohttp.ClientResponse:
        session = await self._connected()
        response = await session.post(
            endpoint.url,
            json=body,
            headers=headers,
            allow_redirects=False,  # a key goes nowhere but where the catalogue says
            timeout=aiohttp.ClientTimeout(total=remaining_s),
        )
        if response.status == 200:
            return response
        async with response:
            raise await _refused(endpoint, response)

    async def _connected(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._held, self._loop = _session(), loop
            self._session = await anext(self._held)
        return self._session


async def _session() -> AsyncGenerator[aiohttp.ClientSession]:
    """Hold a session open. An event loop that shuts down closes its async generators, and with this one the session."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        yield session


async def _refused(endpoint: Endpoint, response: aiohttp.ClientResponse) -> UpstreamError:
    text = (await response.content.read(ERROR_BODY)).decode("utf-8", "replace")
    try:
        detail = error_message(json.loads(text))
    except ValueError:
        detail = "" if "<html" in text.lower() else text
    error = endpoint.refused(response.status, detail)
    after_s = _seconds(response.headers.get("Retry-After", ""))
    return _RetryLater(error, after_s) if error.retryable and after_s is not None else error


def _seconds(retry_after: str) -> float | None:
    """Read a Retry-After header: seconds or a date; None where it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((moment - datetime.now(moment.tzinfo)).total_seconds(), 0.0)


def _broken(endpoint: Endpoint, error: Exception, timeout_s: float) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return endpoint.error(f"did not finish within {timeout_s:g} s", retryable=True)
    if isinstance(error, aiohttp.InvalidURL):
        return endpoint.error("has a base_url that is not an address")
    if isinstance(error, aiohttp.ClientConnectorError):
        return endpoint.error("cannot be reached", retryable=True)
    return endpoint.error("broke the connection", retryable=True)
