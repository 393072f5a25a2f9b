"""A stub upstream that costs almost nothing: OpenAI's wire over a bare asyncio protocol.

    python -m benchmarks.serving.stub PORT

Answers `POST …/chat/completions` with one fixed completion, or with 20 chunks where the body asks for a stream. It reads just enough HTTP
to do so: Content-Length bodies and keep-alive. Everything is written at once, so that what is measured is the proxy before it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

CHUNKS = 20


def _whole() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": 0,
            "model": "stub",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Use flexbox. " * 8}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _stream() -> bytes:
    def event(choices: list[Any], **more: Any) -> bytes:
        chunk = {
            "id": "chatcmpl-stub",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "stub",
            "choices": choices,
            **more,
        }
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    events = [event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])]
    events += [event([{"index": 0, "delta": {"content": "flexbox "}, "finish_reason": None}]) for _ in range(CHUNKS)]
    events += [event([{"index": 0, "delta": {}, "finish_reason": "stop"}])]
    events += [event([], usage={"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}), b"data: [DONE]\n\n"]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(data), data) for data in events)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunked
        + b"0\r\n\r\n"
    )


WHOLE, STREAM = _whole(), _stream()


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._read = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request that has come."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._read[:end]).lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._read) < end + 4 + size:
                return
            body = bytes(self._read[end + 4 : end + 4 + size])
            del self._read[: end + 4 + size]
            asks = b'"stream":true' in body or b'"stream": true' in body
            self._transport.write(STREAM if asks else WHOLE)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
