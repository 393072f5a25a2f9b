"""Link-local and metadata addresses are never called, whatever name leads there."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from modelyard.errors import UpstreamError
from modelyard.upstream import Upstream
from modelyard.upstream.endpoint import Endpoint


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.example"])
async def test_a_call_is_refused_where_it_would_go(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves there, as one that a change was checked with may do a moment later."""

    async def resolve(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with Upstream(timeout_s=5) as upstream:
        with pytest.raises(UpstreamError, match="never called") as caught:
            await upstream.complete(Endpoint("m", f"http://{host}/v1", "m"), {"messages": []})
        assert (caught.value.kind, caught.value.retryable) == ("connect", False)
        with pytest.raises(UpstreamError, match="never called"):
            await upstream.probe(Endpoint("m", f"http://{host}/v1", "m"))
