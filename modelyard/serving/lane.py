"""A shorter way for the requests that must be fast: no router, and none of the wrappers that all other requests go through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modelyard.errors import ModelyardError
from modelyard.serving.problems import on_bug, on_http_error

Endpoint = Callable[[Request], Awaitable[Response]]
OnError = Callable[[Request, Exception], Awaitable[Response]]


class FastLane:
    """ASGI app: calls an endpoint by method and path, and tells of errors as the other app would; everything else goes to that one.

    On this path Starlette's own layers took a third of the time that a bare proxy takes.

    Args:
        endpoints: By method and path.
        otherwise: Answers what has no endpoint here; it knows these paths, too, for methods that they do not take.
        on_error: Answers where an endpoint raised what was foreseen.
    """

    def __init__(self, endpoints: Mapping[tuple[str, str], Endpoint], otherwise: ASGIApp, on_error: OnError) -> None:
        self._endpoints, self._otherwise, self._on_error = endpoints, otherwise, on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._otherwise(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except ModelyardError as error:
            response = await self._on_error(request, error)
        except HTTPException as error:
            response = await on_http_error(request, error)
        except Exception as error:
            await (await on_bug(request, error))(scope, receive, send)
            raise  # for the server's log
        await response(scope, receive, send)
