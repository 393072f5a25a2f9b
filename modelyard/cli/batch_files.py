"""The files of `modelyard batch`: requests that go in, answers that come out, and what must be known to go on after an interruption."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import orjson

from modelyard.control.offline import Charged
from modelyard.errors import InvalidInput, InvalidSetting
from modelyard.types import Usage
from modelyard.upstream.offline_files import BatchRequest, BatchResult, mapping
from modelyard.upstream.wire import error_message

LONGEST_NAME: Final = 500  # characters of a custom_id


@dataclass(frozen=True, slots=True)
class Requests:
    """What is to be answered, and a digest of the file that it was read from."""

    asked: Sequence[BatchRequest]
    digest: str


def read_requests(path: Path, needed: str) -> Requests:
    """Read requests, one JSON object a line: a body, with or without a `custom_id`, or a line of OpenAI's batch files.

    A request without a name is called after its line: `line-7`.

    Args:
        path: The file.
        needed: The field that every body must have, such as `messages`.

    Raises:
        InvalidInput: A line is no request, two have the same name, or there is none; says which line.
        InvalidSetting: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}.") from None
    found = dict[str, BatchRequest]()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            request = _request(path, number, line, needed)
            if request.custom_id in found:
                raise InvalidInput(f"{path}, line {number}: the custom_id {request.custom_id!r} is taken already.")
            found[request.custom_id] = request
    if not found:
        raise InvalidInput(f"{path} holds no request.")
    return Requests(tuple(found.values()), hashlib.sha256(content).hexdigest())


def _request(path: Path, number: int, line: bytes, needed: str) -> BatchRequest:
    where = f"{path}, line {number}"
    try:
        row = mapping(orjson.loads(line))
    except ValueError:
        raise InvalidInput(f"{where}: it is not JSON.") from None
    body = mapping(row["body"]) if "body" in row else row
    name = row.get("custom_id", f"line-{number}")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise InvalidInput(f"{where}: custom_id must be a text of 1 to {LONGEST_NAME} characters, but got {name!r}.")
    given = body.get(needed)
    if not given or not isinstance(given, list | str) or (needed == "messages" and not isinstance(given, list)):
        raise InvalidInput(f"{where}: a request for this model needs {needed}.")
    if body.get("stream"):
        raise InvalidInput(f"{where}: a batch cannot stream its answers.")
    return BatchRequest(name, {field: value for field, value in body.items() if field not in {"custom_id", "stream"}})


@dataclass(frozen=True, slots=True)
class State:
    """How far a batch is: the digest of its requests, the model that they are for, and the batch under way at the endpoint."""

    requests: str
    model: str
    deployment: str
    batch: str | None = None


class Answers:
    """The file of answers, and its state beside it; use it as a context, which holds a lock on it.

    Each line is as in OpenAI's files of results, with what it cost under `modelyard`. A line that was cut off is written again.

    Args:
        path: The file; `PATH.state.json` is beside it.

    Raises:
        InvalidSetting: It cannot be written, or another process is at it.
        InvalidInput: It holds something else; it stays as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._state_path = path, path.with_name(f"{path.name}.state.json")
        self.charged = dict[str, Charged]()  # by custom_id; the last one counts
        self.spent_usd = 0.0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(self._file)
        except BlockingIOError:
            self.close()
            raise InvalidSetting(f"{self.path} is being written by another process.") from None
        except OSError as error:
            self.close()
            raise InvalidSetting(f"{self.path} cannot be written: {error.strerror}.") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def answered(self, custom_id: str) -> bool:
        """Whether a request has its answer; one that failed has none, and may be asked again."""
        found = self.charged.get(custom_id)
        return found is not None and not found.result.problem

    def add(self, *charged: Charged) -> None:
        """Write what came of requests, on the disk before anything else is done with it."""
        if self._file is None:
            raise RuntimeError("Answers is used outside of its context: with Answers(…) as answers")
        self._file.writelines(orjson.dumps(_line(one)) + b"\n" for one in charged)
        self._file.flush()
        os.fsync(self._file.fileno())
        for one in charged:
            self._take(one)

    def settle(self) -> None:
        """Leave one line for each request, in the place of those that failed before they were answered."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("wb") as file:
            file.writelines(orjson.dumps(_line(one)) + b"\n" for one in self.charged.values())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    @property
    def state(self) -> State | None:
        """How far the batch is, or None where nothing was begun.

        Raises:
            InvalidSetting: The file beside the answers is damaged.
        """
        try:
            return State(**json.loads(self._state_path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError):
            raise InvalidSetting(f"{self._state_path} cannot be read: move it away to begin anew.") from None

    @state.setter
    def state(self, state: State) -> None:
        partial = self._state_path.with_name(f".{self._state_path.name}.partial")
        partial.write_text(json.dumps(asdict(state), indent=1) + "\n", "utf-8")
        partial.replace(self._state_path)

    def _read(self, file: BinaryIO) -> None:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                self._take(_charged(orjson.loads(line)))
            except (KeyError, TypeError, ValueError):
                raise self._not_ours(number) from None
        if whole < len(content):  # cut off by a kill
            if self.state is None:
                raise self._not_ours(len(lines) + 1)
            file.truncate(whole)

    def _not_ours(self, number: int) -> InvalidInput:
        return InvalidInput(f"{self.path}, line {number} is no answer of `modelyard batch`: give another --out.")

    def _take(self, charged: Charged) -> None:
        before = self.charged.get(charged.result.custom_id)
        self.spent_usd += charged.usage.cost_usd - (before.usage.cost_usd if before else 0.0)
        self.charged[charged.result.custom_id] = charged


def _line(charged: Charged) -> dict[str, Any]:
    result = charged.result
    response = None if result.problem else {"status_code": result.status or 200, "body": dict(result.body)}
    about = {"deployment": charged.deployment, "price_factor": charged.price_factor, **asdict(charged.usage)}
    error = {"message": result.problem, "code": str(result.status or "")} if result.problem else None
    return {
        "id": charged.id,
        "custom_id": result.custom_id,
        "response": response,
        "error": error,
        "modelyard": about,
    }


def _charged(line: Any) -> Charged:
    about = dict(line["modelyard"])
    deployment, factor = about.pop("deployment"), about.pop("price_factor")
    response = mapping(line["response"])
    result = BatchResult(
        line["custom_id"], mapping(response.get("body")), error_message(line), response.get("status_code")
    )
    return Charged(line["id"], result, Usage(**about), deployment, factor)
