r"""Logs that machines and people can read: JSON lines on stderr, or plain ones where that is a terminal.

Every line of a request carries its id; the last one, from `modelyard.access`, says what became of it: who asked (the key's id), what for,
which model answered, the status, the milliseconds and the cost. Prompts and answers are in it where `settings.log_prompts` allows, and
nowhere else.

What callers wrote cannot forge a line or move a terminal's cursor: JSON is written in ASCII, plain lines show control characters as `\n`
or `\u001b`, and tracebacks are indented. Keys and e-mail addresses are replaced in all texts.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.serving.redact import redact
from modelyard.types import new_id

LONGEST_TEXT: Final = 4000  # characters of a prompt or an answer
LONGEST_MESSAGE: Final = 8000
LONGEST_PATH: Final = 200
LEFT: Final = 499  # status of a request whose caller left before there was one, as nginx calls it
TEXTS: Final = ("prompt", "answer")
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,80}")
_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

Fact = str | int | float | bool | None
access = logging.getLogger("modelyard.access")


class RequestLine:
    """What the log will say of a request; filled in while it is answered.

    Attributes:
        request_id: The caller's own name for it, or a fresh one.
        facts: By name; None is left out.
    """

    __slots__ = ("facts", "request_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.facts: dict[str, Fact] = {}


_current: ContextVar[RequestLine | None] = ContextVar("request_line", default=None)


def note(**facts: Fact) -> None:
    """Say something of the request that is being answered; does nothing outside of one.

    Args:
        facts: `key_id`, `composite`, `model`, `cost_usd`, `error`, `prompt`, `answer` and what else a reader of the log may look for.
    """
    line = _current.get()
    if line is not None:
        line.facts.update(facts)


def current_request_id() -> str | None:
    """Return the id of the request that is being answered, or None outside of one."""
    line = _current.get()
    return None if line is None else line.request_id


class RequestLog:
    """ASGI middleware: names each request, tells its name in `x-request-id`, and logs its end.

    Args:
        app: What answers.
        log_prompts: Whether the facts `prompt` and `answer` are shown.
    """

    def __init__(self, app: ASGIApp, *, log_prompts: bool = False) -> None:
        self._app, self._log_prompts = app, log_prompts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line, started, status = RequestLine(_name_of(scope)), time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), (b"x-request-id", line.request_id.encode())],
                }
            await send(message)

        token = _current.set(line)
        try:
            await self._app(scope, receive, sending)
        except BaseException as error:
            status = status or (500 if isinstance(error, Exception) else LEFT)
            raise
        finally:
            if access.isEnabledFor(logging.INFO):
                self._write(line, scope, status or LEFT, (time.perf_counter() - started) * 1000)
            _current.reset(token)

    def _write(self, line: RequestLine, scope: Scope, status: int, ms: float) -> None:
        facts = {name: value for name, value in line.facts.items() if value is not None and name not in TEXTS}
        if self._log_prompts:
            for name in TEXTS:
                if text := line.facts.get(name):
                    facts[name] = redact(str(text), LONGEST_TEXT)
        facts |= {
            "method": scope["method"],
            "path": redact(scope["path"], LONGEST_PATH),
            "status": status,
            "ms": round(ms, 3),
        }
        access.info("%s %s %s", facts["method"], facts["path"], status, extra={"facts": facts, "redacted": True})


def configure_logs(*, access_log: bool = True, stream: TextIO | None = None) -> None:
    """Set up the process's logging: one handler for all, uvicorn's own lines among them; for programs, not for libraries.

    Uvicorn must be run with `log_config=None, access_log=False`.

    Args:
        access_log: Whether each request's end is logged.
        stream: Where to; stderr without it.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if handler.stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("modelyard").setLevel(logging.INFO)
    access.setLevel(logging.INFO if access_log else logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn").setLevel(logging.INFO)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: no character of a text can end or hide a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        if (request_id := current_request_id()) is not None:
            said["request_id"] = request_id
        said |= {name: value for name, value in _facts_of(record).items() if name not in said}
        if trouble := _trouble_of(self, record):
            said["exception"] = redact(trouble)
        return _JSON.encode(said)


class PlainFormatter(logging.Formatter):
    """One line for people; a traceback follows it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback."""
        head = f"{_time_of(record)[11:23]} {record.levelname:<8}{record.name}: {visible(_message_of(record))}"
        facts = {name: value for name, value in _facts_of(record).items() if name not in {"method", "path", "status"}}
        if (request_id := current_request_id()) is not None:
            facts = {"request_id": request_id, **facts}
        parts = [head, *(f"{name}={visible(str(value))}" for name, value in facts.items())]
        trouble = redact(_trouble_of(self, record)).splitlines()
        return "\n".join((" ".join(parts), *(f"    | {visible(row)}" for row in trouble)))


def visible(text: str) -> str:
    r"""Return a text with what a terminal would obey or hide written out, such as `\n` and `\u001b`."""
    return _UNSEEN.sub(lambda found: _WRITTEN.get(found[0], f"\\u{ord(found[0]):04x}"), text)


_JSON: Final = json.JSONEncoder(default=str)
_WRITTEN: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _name_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if _REQUEST_ID.fullmatch(given) else new_id("req")
    return new_id("req")


def _facts_of(record: logging.LogRecord) -> dict[str, Fact]:
    return getattr(record, "facts", {})


def _message_of(record: logging.LogRecord) -> str:
    message = record.getMessage()
    return message if getattr(record, "redacted", False) else redact(message, LONGEST_MESSAGE)


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _trouble_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the traceback and the stack of a record, or the empty string; tracebacks show no values of variables."""
    rows = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        rows.append(formatter.formatStack(record.stack_info))
    return "\n".join(rows)
