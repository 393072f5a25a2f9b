"""Pooled connections, and a typed fault for every way in which HTTP can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from modelyard.errors import FaultKind, UpstreamError
from modelyard.upstream.addresses import RefusedAddress, open_socket
from modelyard.upstream.endpoint import Endpoint, error_parts
from modelyard.upstream.faults import retry_after

CONNECTIONS: Final = 1024  # at a time; deployments have narrower limits of their own
KEEPALIVE_S: Final = 15.0
LONGEST_HEADER: Final = 16 << 10  # bytes
LONGEST_ANSWER: Final = 64 << 20  # bytes; embeddings are long
ERROR_BODY: Final = 64 << 10  # bytes of an error's body that are read
LINGER_S: Final = 1.0  # how long a stream that said its end may take to close its body

# Bodies are short, and a stream must not wait for a compressor's next block.
_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}

# What aiohttp and the sockets below it raise; addresses and headers that cannot be used are ValueErrors.
BROKEN: Final = (aiohttp.ClientError, HttpProcessingError, OSError, EOFError, ValueError)


class Transport:
    """One session, opened on first use, that closes with `close` or when its event loop shuts down.

    Args:
        connect_s: Longest time until a connection stands, the wait for a free one in the pool included.
    """

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._held: AsyncGenerator[aiohttp.ClientSession] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Close the pooled connections; a later call opens new ones."""
        held, self._held, self._session = self._held, None, None
        if held is not None and self._loop is asyncio.get_running_loop():
            await held.aclose()

    async def post(self, endpoint: Endpoint, path: str, data: bytes) -> aiohttp.ClientResponse:
        """Send a request and return the response once its headers are there; its status is 200.

        Raises:
            UpstreamError: The endpoint refused.
        """
        session = await self._connected()
        # Redirects are not followed: a key goes nowhere but where the catalogue says.
        response = await session.post(
            _url(endpoint.base_url, path), data=data, headers=_HEADERS | endpoint.headers(), allow_redirects=False
        )
        return await self._accepted(endpoint, response, 200)

    async def get(self, endpoint: Endpoint, path: str, *statuses: int) -> aiohttp.ClientResponse:
        """Get a page whose status is one of those given.

        Raises:
            UpstreamError: Its status is another.
        """
        session = await self._connected()
        response = await session.get(_url(endpoint.base_url, path), headers=endpoint.headers(), allow_redirects=False)
        return await self._accepted(endpoint, response, *statuses)

    async def _accepted(
        self, endpoint: Endpoint, response: aiohttp.ClientResponse, *statuses: int
    ) -> aiohttp.ClientResponse:
        if response.status in statuses:
            return response
        try:
            raise await _refused(endpoint, response)
        finally:
            response.release()

    async def _connected(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._held, self._loop = _session(self._connect_s), loop
            self._session = await anext(self._held)
        return self._session


async def _session(connect_s: float) -> AsyncGenerator[aiohttp.ClientSession]:
    """Hold a session open. An event loop that shuts down closes its async generators, and with this one the session."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=30, socket_factory=open_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
        max_line_size=LONGEST_HEADER,
        max_field_size=LONGEST_HEADER,
    ) as session:
        yield session


@lru_cache(maxsize=4096)
def _url(base_url: str, path: str) -> URL:
    return URL(base_url.rstrip("/") + path)


async def read(endpoint: Endpoint, response: aiohttp.ClientResponse) -> bytes:
    """Read a whole body, as far as the limit.

    Raises:
        UpstreamError: It is longer.
    """
    try:
        content = response.content
        first = await content.readany()
        if content.at_eof():
            return first
        body = bytearray(first)
        while chunk := await content.readany():
            body += chunk
            if len(body) > LONGEST_ANSWER:
                raise endpoint.error(f"sent an answer of more than {LONGEST_ANSWER} bytes")
        return bytes(body)
    finally:
        response.release()  # of a body that was not read to its end, this closes the connection


def let_linger(response: aiohttp.ClientResponse) -> None:
    """Let a stream that said its end close its body, so that its connection can be used again; but not for long."""
    if not response.closed:
        asyncio.get_running_loop().call_later(LINGER_S, response.close)


async def _refused(endpoint: Endpoint, response: aiohttp.ClientResponse) -> UpstreamError:
    body = bytearray()
    while len(body) < ERROR_BODY and (chunk := await response.content.readany()):
        body += chunk
    code, detail = _error_of(bytes(body[:ERROR_BODY]))
    after_s = retry_after(response.headers.get("Retry-After", ""), response.headers.get("Retry-After-Ms", ""))
    return endpoint.refused(response.status, detail, code=code, retry_after_s=after_s)


def _error_of(body: bytes) -> tuple[str, str]:
    """Return code and message of an error's body; a proxy's page says nothing."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace")
        return "", "" if "<html" in text.lower() else text
    if not isinstance(found, dict):
        return "", ""
    # FastAPI and vLLM put the sentence elsewhere.
    code, message = error_parts(found.get("error") or found)
    detail = found.get("detail")
    return code, message or (detail if isinstance(detail, str) else "")


def fault(endpoint: Endpoint, error: BaseException, timeout_s: float) -> UpstreamError:
    """Return the fault that stands for what broke.

    Args:
        endpoint: Where it broke.
        error: One of `BROKEN`.
        timeout_s: The time that was up, where it is a TimeoutError.
    """
    if isinstance(error, aiohttp.ClientPayloadError) and isinstance(error.__cause__, ContentEncodingError):
        return endpoint.error("sent a body that cannot be decompressed")
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, RefusedAddress):
        return endpoint.error(
            "is at a link-local or metadata address, which is never called", kind="connect", retryable=False
        )
    for kinds, kind, what, retryable in _FAULTS:
        if isinstance(error, kinds):
            return endpoint.error(what.format(timeout_s), kind=kind, retryable=retryable)
    return endpoint.error("has a base_url that is not an address", kind="connect", retryable=False)


# The first that fits; `{:g}` is the time that was up.
_FAULTS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], FaultKind, str, bool], ...]] = (
    (aiohttp.ConnectionTimeoutError, "connect", "did not accept a connection in time", True),
    (TimeoutError, "timeout", "did not finish within {:g} s", True),
    (aiohttp.InvalidURL, "connect", "has a base_url that is not an address", False),
    (aiohttp.ClientConnectorDNSError, "connect", "cannot be reached: its name has no address", True),
    (aiohttp.ClientSSLError, "connect", "cannot be reached over TLS", False),
    (aiohttp.ClientConnectorError, "connect", "cannot be reached", True),
    ((aiohttp.ClientResponseError, HttpProcessingError), "garbage", "sent a response that is not HTTP", True),
    ((aiohttp.ClientError, OSError, EOFError), "cut", "broke the connection", True),
)
