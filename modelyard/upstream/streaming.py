"""Puts streamed answers together from their chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from modelyard.errors import UpstreamError
from modelyard.types import Delta, FinishReason
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.events import EventReader, MalformedEvents
from modelyard.upstream.wire import (
    Completion,
    Counts,
    counts,
    decode,
    details,
    finish_reason_of,
    mapping,
    others,
    said_of,
    text_of,
    whole,
)

DONE: Final = b"[DONE]"


class StreamedAnswer:
    """Puts the chunks of one streamed answer together."""

    __slots__ = (
        "_blank",
        "_endpoint",
        "_events",
        "_extras",
        "_fields",
        "_untold",
        "counts",
        "done",
        "finish_reason",
        "parts",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._events = EventReader()
        self._blank = ""
        self._fields: dict[str, Any] = {}
        self._extras: dict[str, Any] = {}
        self._untold: dict[str, Any] = {}  # what goes with the next piece
        self.parts: list[str] = []
        self.counts = Counts()
        self.finish_reason: FinishReason | None = None
        self.done = False

    def feed(self, chunk: bytes) -> Iterator[Delta]:
        """Read the next bytes, b"" at the end of the body, and yield what is to be passed on; `done` once the end mark was seen.

        Raises:
            UpstreamError: They are no stream of chunks, or hold an error; what came before that is yielded first.
        """
        held, broken = None, None
        try:
            for delta in self._deltas(chunk):
                if held is not None:
                    yield Delta(held.text, held.fields, True, held.extras)
                held = delta
        except UpstreamError as error:
            broken = error
        if held is not None:
            yield held
        if broken is not None:
            raise broken

    def _deltas(self, chunk: bytes) -> Iterator[Delta]:
        try:
            for event in self._events.feed(chunk) if chunk else self._events.finish():
                if event.strip() == DONE:
                    self.done = True
                    return
                if (delta := self.take(event)) is not None:
                    yield delta
        except MalformedEvents as error:
            raise self._endpoint.error(str(error)) from None

    def take(self, data: bytes) -> Delta | None:
        """Read one event's data; None where it holds nothing to pass on.

        White space is held back until something follows it, so that an answer of white space alone never begins.

        Raises:
            UpstreamError: It is not a chunk, or it is an error.
        """
        chunk = decode(self._endpoint, data)
        if usage := chunk.get("usage"):
            self.counts = counts(usage)
            self._extras |= details(usage)
        choices: Any = chunk.get("choices")
        if not choices:
            if usage or isinstance(choices, list):
                return None
            raise self._endpoint.error("sent an event that is no chunk of an answer")
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, dict):
            raise self._endpoint.error("sent an event that is no chunk of an answer")
        read = cast("dict[str, Any]", choice)
        if read.get("logprobs") or ("system_fingerprint" in chunk and "system_fingerprint" not in self._extras):
            self._note(said_of(chunk, read))
        return self._read(read)

    def _note(self, extras: Mapping[str, Any]) -> None:
        for name, value in extras.items():
            if name == "logprobs":
                for noted in (self._extras, self._untold):
                    _join(noted.setdefault(name, {}), value)
            elif name not in self._extras:
                self._extras[name] = self._untold[name] = value

    def _read(self, choice: dict[str, Any]) -> Delta | None:
        reason = choice.get("finish_reason")
        if reason is not None:
            self.finish_reason = finish_reason_of(self._endpoint, reason)
        delta: Any = choice.get("delta")
        if not delta:
            return None
        if not isinstance(delta, dict):
            raise self._endpoint.error("sent an event that is no chunk of an answer")
        piece = cast("dict[str, Any]", delta)
        content: Any = piece.get("content")
        text = content if isinstance(content, str) else text_of(self._endpoint, content)
        fields = others(piece) if len(piece) > 1 or "content" not in piece else None
        if fields:
            _merge(self._fields, fields)
        if text:
            if not self.parts and not text.strip():
                self._blank += text
                text = ""
            else:
                if self._blank:
                    text, self._blank = self._blank + text, ""
                self.parts.append(text)
        if not (fields or text):
            return None
        extras = None
        if self._untold:
            extras, self._untold = self._untold, {}
        return Delta(text, fields or {}, False, extras)

    @property
    def text(self) -> str:
        """What has come so far."""
        return "".join(self.parts)

    def finish(self) -> Completion:
        """Return the whole answer.

        Raises:
            UpstreamError: The stream ended without a finish reason, or held nothing.
        """
        if self.finish_reason is None:
            # The end mark alone proves nothing: proxies write it after whatever their own upstream left them with.
            what = "ended its stream without a finish reason" if self.done else "cut its stream before the end"
            raise self._endpoint.error(what, kind="cut")
        fields = _without_index(self._fields)
        return whole(self._endpoint, self.text, self.finish_reason, self.counts, fields, self._extras)


def _merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a delta's fields to what has come: strings and lists go on, tool calls are merged by `index`, the rest is replaced."""
    for name, value in piece.items():
        before = whole.get(name)
        if name == "tool_calls" and isinstance(value, list):
            whole[name] = _merged_calls(cast("list[dict[str, Any]]", before or []), cast("list[Any]", value))
        elif isinstance(value, str) and isinstance(before, str):
            whole[name] = before + value
        elif isinstance(value, list) and isinstance(before, list):
            whole[name] = [*cast("list[Any]", before), *cast("list[Any]", value)]
        else:
            whole[name] = value


def _join(before: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add a piece's log probabilities to those of the text before it: a list of tokens each for content and refusal."""
    for name, value in piece.items():
        known = before.get(name)
        if isinstance(value, list) and isinstance(known, list):
            cast("list[Any]", known).extend(cast("list[Any]", value))  # not anew: a long answer has thousands
        elif value is not None or name not in before:
            before[name] = list(cast("list[Any]", value)) if isinstance(value, list) else value


def _merged_calls(before: list[dict[str, Any]], pieces: list[Any]) -> list[dict[str, Any]]:
    calls: dict[Any, dict[str, Any]] = {call["index"]: call for call in before}
    for position, found in enumerate(pieces):
        piece = mapping(found)
        index = piece.get("index")
        index = index if isinstance(index, int) else position
        call = calls.setdefault(index, {"index": index, "function": {}})
        function = call["function"]
        for name, value in mapping(piece.get("function")).items():
            if name == "arguments" and isinstance(value, str):
                function[name] = function.get(name, "") + value
            elif value:
                function[name] = value
        call.update({name: value for name, value in piece.items() if name not in {"index", "function"} and value})
    return list(calls.values())


def _without_index(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a whole message's fields: the numbers of tool calls belong to the stream alone."""
    if "tool_calls" not in fields:
        return fields
    calls = [{name: value for name, value in call.items() if name != "index"} for call in fields["tool_calls"]]
    return fields | {"tool_calls": calls}
