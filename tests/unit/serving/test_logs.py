from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from modelyard.serving.logs import JsonFormatter, PlainFormatter, RequestLog, configure_logs, current_request_id, note
from modelyard.serving.redact import redact

KEY = "sk-proj-abcdefgh12345678"
NASTY = "a\nb\r\x1b[2J\x9b\x00\u2028\u202eevil\x85 ERROR modelyard: all keys leaked"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    names = [None, "modelyard", "modelyard.access", "uvicorn", "uvicorn.error", "uvicorn.access"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


@pytest.fixture
def written() -> io.StringIO:
    """What is logged, as JSON lines."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def record(message: str, *args: object, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("modelyard.serving", logging.WARNING, "x.py", 1, message, args, more.pop("exc_info", None))
    made.__dict__.update(more)
    return made


async def chat(request: Request) -> Response:
    note(
        key_id="key-1", composite="auto", model="lg", cost_usd=0.002, prompt=f"I am ada@example.org, {KEY}", error=None
    )
    logging.getLogger("modelyard.serving").warning("slow upstream")
    return PlainTextResponse(current_request_id() or "")


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        note(model="sm")
        yield b"b"

    return StreamingResponse(pieces())


async def bug(request: Request) -> Response:
    raise ZeroDivisionError(NASTY)


def app(**options: Any) -> ASGIApp:
    return RequestLog(Starlette(routes=[Route("/chat", chat), Route("/stream", stream), Route("/bug", bug)]), **options)


async def get(path: str, asgi: ASGIApp | None = None, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(asgi or app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, **options)


async def test_end_of_a_request_says_who_asked_what_and_what_it_cost(written: io.StringIO) -> None:
    answered = await get("/chat?api_key=secret", headers={"x-request-id": "mine-1"})
    assert answered.headers["x-request-id"] == answered.text == "mine-1"
    warning, end = lines(written)
    assert (warning["message"], warning["request_id"], warning["level"]) == ("slow upstream", "mine-1", "warning")
    assert end.pop("ms") >= 0.0
    assert end.pop("time").endswith("+00:00")
    assert end == {
        "level": "info",
        "logger": "modelyard.access",
        "message": "GET /chat 200",
        "request_id": "mine-1",
        "key_id": "key-1",
        "composite": "auto",
        "model": "lg",
        "cost_usd": 0.002,
        "method": "GET",
        "path": "/chat",
        "status": 200,
    }


async def test_stream_is_logged_when_it_is_over(written: io.StringIO) -> None:
    await get("/stream")
    (end,) = lines(written)
    assert (end["model"], end["status"]) == ("sm", 200)


@pytest.mark.parametrize("given_id", [None, "", "a b", "x" * 81, "caf\xe9"])
async def test_request_without_a_usable_name_gets_one(written: io.StringIO, given_id: str | None) -> None:
    headers = [] if given_id is None else [(b"x-request-id", given_id.encode("latin-1"))]
    answered = await get("/chat", headers=headers)
    assert answered.text.startswith("req-")
    assert lines(written)[-1]["request_id"] == answered.text == answered.headers["x-request-id"]


async def test_requests_at_once_keep_their_own_facts(written: io.StringIO) -> None:
    both = app()
    await asyncio.gather(*(get("/chat", both, headers={"x-request-id": f"r-{n}"}) for n in range(20)))
    ends = [line for line in lines(written) if line["logger"] == "modelyard.access"]
    assert sorted(end["request_id"] for end in ends) == sorted(f"r-{n}" for n in range(20))
    assert current_request_id() is None


async def test_prompts_are_logged_only_when_that_is_switched_on(written: io.StringIO) -> None:
    await get("/chat")
    assert "prompt" not in lines(written)[-1]
    await get("/chat", app(log_prompts=True))
    assert lines(written)[-1]["prompt"] == "I am [e-mail], [key]"
    assert KEY not in written.getvalue()


async def test_bug_ends_in_a_line_with_status_500(written: io.StringIO) -> None:
    answered = await get("/bug")
    assert answered.status_code == 500
    assert all(line["logger"] == "modelyard.access" for line in lines(written))
    assert lines(written)[-1]["status"] == 500


async def test_caller_that_leaves_before_an_answer_is_499(written: io.StringIO) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(get("/chat", RequestLog(never)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lines(written)[-1]["status"] == 499


async def test_what_is_no_http_request_passes_through() -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await RequestLog(inner)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


async def test_access_log_can_be_switched_off() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream, access_log=False)
    answered = await get("/chat")
    assert answered.headers["x-request-id"]
    assert [line["message"] for line in lines(stream)] == ["slow upstream"]


def test_note_outside_of_a_request_does_nothing() -> None:
    note(model="sm")
    assert current_request_id() is None


@given(st.text(), st.text())
def test_no_text_forges_a_json_line(message: str, fact: str) -> None:
    line = JsonFormatter().format(record("%s", message, facts={"answer": fact}))
    assert line.isascii()
    assert line.isprintable()
    said = json.loads(line)
    assert (said["message"], said["answer"], said["level"]) == (redact(message), fact, "warning")


@given(st.text(), st.text())
def test_no_text_forges_a_plain_line(message: str, fact: str) -> None:
    line = PlainFormatter().format(record("%s", message, facts={"answer": fact}))
    assert len(line.splitlines()) == 1
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 or sign in "\u2028\u2029\u202e" for sign in line)


def test_fact_cannot_pose_as_what_the_log_says_itself() -> None:
    said = json.loads(JsonFormatter().format(record("fine", facts={"level": "none", "message": "evil", "time": "0"})))
    assert (said["level"], said["message"]) == ("warning", "fine")


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()])
def test_tracebacks_are_kept_apart_from_lines(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(f"{NASTY} {KEY}")
    except ValueError as error:
        exc_info = (type(error), error, error.__traceback__)
    first, *rest = formatter.format(record("failed", exc_info=exc_info)).splitlines()
    assert "failed" in first
    assert all(row.startswith("    | ") for row in rest)
    assert bool(rest) is isinstance(formatter, PlainFormatter)
    assert KEY not in first + "".join(rest)
    assert "\x1b" not in first + "".join(rest)


def test_terminal_gets_plain_lines() -> None:
    stream = Terminal()
    configure_logs(stream=stream)
    logging.getLogger("modelyard.serving").warning("An upstream is slow: %s", "a\nb")
    assert stream.getvalue().endswith(" WARNING modelyard.serving: An upstream is slow: a\\nb\n")


def test_chatter_of_third_parties_is_left_out(written: io.StringIO) -> None:
    logging.getLogger("somebody").info("hello")
    logging.getLogger("somebody").warning("oh")
    logging.getLogger("modelyard.serving").info("changed")
    assert [line["message"] for line in lines(written)] == ["oh", "changed"]


async def test_uvicorn_speaks_through_our_handler_and_keeps_its_own_access_log_to_itself(written: io.StringIO) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(), port=port, log_config=None, access_log=False, lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{port}/chat", headers={"x-request-id": "over-http"})
    server.should_exit = True
    await running
    said = lines(written)
    assert [line["request_id"] for line in said if line["logger"] == "modelyard.access"] == ["over-http"]
    assert any("Uvicorn running" in line["message"] for line in said if line["logger"] == "uvicorn.error")
    assert not [line for line in said if line["logger"] == "uvicorn.access"]


SECRETS: list[tuple[str, str]] = [
    ("my-Ab12Cd34-abcdefghijklmnopqrstuvwxyz0123456789AB", "[key]"),
    ("sk-ant-api03-abcdefgh12345678", "[key]"),
    ("ghp_abcdefghijklmnopqrst1234", "[key]"),
    ("AKIAIOSFODNN7EXAMPLE", "[key]"),
    ("Authorization: Bearer abc.def.ghi123", "Authorization: Bearer [key]"),
    ("http://ada:secret@host:5432/db", "http://[key]@host:5432/db"),
    ("?api_key=verysecret&x=1", "?api_key=[key]&x=1"),
    ("write to ada.lovelace+x@mail.example.co.uk now", "write to [e-mail] now"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "[key]"),
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_keys_and_addresses_are_replaced(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text", ["", "my-component-library", "sk-learn-contrib-package", "a@b", "@media print", "x @ y.z"]
)
def test_plain_words_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a." * 100_000, "a@" * 100_000, "sk-" * 70_000, "://a:" * 50_000, "eyJ-" * 50_000]
)
def test_long_texts_are_searched_in_linear_time(text: str) -> None:
    assert len(redact(text)) <= len(text)


def test_cut_text_shows_no_part_of_a_key() -> None:
    assert redact(f"my key: {KEY}", 16) == "my key: [key]"
    assert redact("abcdef", 3) == "abc"
