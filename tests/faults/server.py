"""An upstream that fails in every way that upstreams do, over real sockets; its first path segment names the fault."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WORDS: Final = ("An ", "answer ", "in ", "five ", "pieces.")
TEXT: Final = "".join(WORDS)
DRIP_S: Final = 0.05  # between two bytes of what is slow
TLS: Final = "tls"

Handler = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request, as far as a fault needs it; `n` counts the requests for this fault from 1."""

    fault: str
    n: int
    streaming: bool
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        for n in range(len(data)):
            await self.send(data[n : n + 1])
            await asyncio.sleep(DRIP_S)

    async def status(self, line: str, headers: str = "") -> None:
        body = json.dumps({"error": {"message": f"injected: {line}", "type": "injected"}}).encode()
        await self.send(_head(line, len(body), headers=headers) + body)

    async def answer(self) -> None:
        if self.streaming:
            await self.send(STREAM_HEAD + b"".join(map(_chunked, [*PIECES, FINISH, DONE])) + END)
        else:
            await self.send(_head("200 OK", len(WHOLE)) + WHOLE)

    def reset(self) -> None:
        """Close the connection with a reset instead of an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def _head(line: str, length: int, *, kind: str = "application/json", headers: str = "") -> bytes:
    return f"HTTP/1.1 {line}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{headers}\r\n".encode()


def _event(choice: dict[str, Any]) -> bytes:
    return (
        b"data: "
        + json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}).encode()
        + b"\n\n"
    )


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECES: Final = [_event({"delta": {"content": word}, "finish_reason": None}) for word in WORDS]
FINISH: Final = _event({"delta": {}, "finish_reason": "stop"})
DONE: Final = b"data: [DONE]\n\n"
END: Final = b"0\r\n\r\n"
WHOLE: Final = json.dumps(
    {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }
).encode()


async def good(exchange: Exchange) -> None:
    await exchange.answer()


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def rate_limit_with_retry_after(exchange: Exchange) -> None:
    if exchange.n % 2:
        await exchange.status("429 Too Many Requests", "retry-after: 0.2\r\n")
    else:
        await exchange.answer()


async def flapping(exchange: Exchange) -> None:
    if exchange.n % 3:
        await exchange.status("503 Service Unavailable")
    else:
        await exchange.answer()


async def slow_headers(exchange: Exchange) -> None:
    await exchange.drip(_head("200 OK", len(WHOLE)) + WHOLE)


async def slow_body(exchange: Exchange) -> None:
    if exchange.streaming:
        await exchange.send(STREAM_HEAD)
        for byte in b"".join([*PIECES, FINISH, DONE]):
            await exchange.send(_chunked(bytes([byte])))
            await asyncio.sleep(DRIP_S)
    else:
        await exchange.send(_head("200 OK", len(WHOLE)))
        await exchange.drip(WHOLE)


async def garbage_json(exchange: Exchange) -> None:
    body = WHOLE[:-20] + b"\x00\xff}}}"
    if exchange.streaming:
        await exchange.send(STREAM_HEAD + _chunked(b"data: " + body + b"\n\n") + _chunked(DONE) + END)
    else:
        await exchange.send(_head("200 OK", len(body)) + body)


async def malformed_sse(exchange: Exchange) -> None:
    body = b"".join(PIECES).replace(b"data: ", b"dta ") + DONE
    if exchange.streaming:
        await exchange.send(STREAM_HEAD + _chunked(body) + END)
    else:
        await exchange.send(_head("200 OK", len(body), kind="text/event-stream") + body)


def cut(pieces: int, *, politely: bool) -> Handler:
    """Break off after so many pieces: with a reset, or politely, as if that had been all."""

    async def handler(exchange: Exchange) -> None:
        if exchange.streaming:
            await exchange.send(STREAM_HEAD)
            for piece in PIECES[:pieces]:
                await exchange.send(_chunked(piece))
                await asyncio.sleep(0.01)
            if politely:
                await exchange.send(END)
        else:
            part = WHOLE[: len(WHOLE) // 2]
            await exchange.send(_head("200 OK", len(part) if politely else len(WHOLE)) + part)
        if not politely:
            await asyncio.sleep(0.05)  # what was sent must arrive before the reset
            exchange.reset()

    return handler


async def end_mark_alone(exchange: Exchange) -> None:
    """Stop after 3 pieces with the end mark and no finish reason, as proxies do whose own upstream broke off."""
    if exchange.streaming:
        await exchange.send(STREAM_HEAD + b"".join(map(_chunked, [*PIECES[:3], DONE])) + END)
    else:
        await cut(3, politely=True)(exchange)


def _always(line: str) -> Handler:
    async def handler(exchange: Exchange) -> None:
        await exchange.status(line)

    return handler


HANDLERS: Final[dict[str, Handler]] = {
    "good": good,
    "reset": reset,
    "401": _always("401 Unauthorized"),
    "404": _always("404 Not Found"),
    "408": _always("408 Request Timeout"),
    "429-retry-after": rate_limit_with_retry_after,
    "429": _always("429 Too Many Requests"),
    "500": _always("500 Internal Server Error"),
    "502": _always("502 Bad Gateway"),
    "503-flapping": flapping,
    "slow-headers": slow_headers,
    "slow-body": slow_body,
    "garbage-json": garbage_json,
    "malformed-sse": malformed_sse,
    "cut-0": cut(0, politely=False),
    "cut-3": cut(3, politely=False),
    "cut-3-politely": cut(3, politely=True),
    "end-mark-alone": end_mark_alone,
}


@dataclass
class FaultServer:
    """Serves every fault below one address, and says which requests it saw and which of them were given up."""

    port: int = 0
    tls_port: int = 0
    refusing_port: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    open: int = 0

    def base_url(self, fault: str) -> str:
        """Return the address at which an upstream fails like that."""
        match fault:
            case "refused":
                return f"http://127.0.0.1:{self.refusing_port}/v1"
            case "dns":
                return "http://upstream.invalid/v1"
            case "tls":
                return f"https://127.0.0.1:{self.tls_port}/good/v1"
            case _:
                return f"http://127.0.0.1:{self.port}/{fault}/v1"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            return  # the caller left
        finally:
            self.open -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fault = head.split(" ", 2)[1].split("/")[1]
        length = next(
            int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")
        )
        body = json.loads(await reader.readexactly(length))
        self.requests[fault] += 1
        await HANDLERS[fault](Exchange(fault, self.requests[fault], bool(body.get("stream")), writer))
        return not writer.transport.is_closing()


@asynccontextmanager
async def fault_server(folder: Path) -> AsyncIterator[FaultServer]:
    """Start the server; `folder` takes the certificate that nobody trusts."""
    server = FaultServer()
    plain = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    secure = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=_untrusted(folder))
    with socket.socket() as refusing:  # bound and never listening: nobody else gets the port, and nobody answers
        refusing.bind(("127.0.0.1", 0))
        server.port, server.tls_port = plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1]
        server.refusing_port = refusing.getsockname()[1]
        try:
            yield server
        finally:
            plain.close()
            secure.close()


def _untrusted(folder: Path) -> ssl.SSLContext:
    """Return a context with a fresh certificate that its own key signed."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    pem = folder / "untrusted.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
