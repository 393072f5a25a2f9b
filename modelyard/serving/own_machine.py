"""Without keys only programs on this machine are answered: no page of another site that the operator's browser has open.

Such a page could call this machine's own address (then its `Origin` is not ours), or a name of its own that it lets resolve to it (then
`Host` is). Either could spend money.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.errors import Forbidden
from modelyard.serving.problems import JsonResponse, described

SENTENCE: Final = (
    "Without authentication the server answers programs on this machine only; MODELYARD_AUTH=keys lets others in."
)


class OwnMachine:
    """ASGI middleware that refuses requests which a page of another site may have made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and from_elsewhere(scope["headers"]):
            status, body = described(Forbidden(SENTENCE))
            await JsonResponse(body, status)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def from_elsewhere(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request may be another site's, by its headers in lower case."""
    host = origin = None
    for name, value in headers:
        if name == b"host":
            if host is not None and value != host:
                return True
            host = value
        elif name == b"origin":
            origin = value
    return not _is_own(host or b"", origin)


@lru_cache(maxsize=256)  # programs on this machine say few different things, and the hot path asks each time
def _is_own(host: bytes, origin: bytes | None) -> bool:
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host.decode("latin-1"):
            return False
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
