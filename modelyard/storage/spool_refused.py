"""What can never be stored: appended to a file beside the spool, for a person to look at."""

from __future__ import annotations

import base64
import fcntl
import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from modelyard.storage.tables.base import JsonText

REFUSED: Final = "refused.jsonl"

log = logging.getLogger("modelyard.storage")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused, and why.

    Attributes:
        table: Where the row belongs; `request` where not even its rows can be told, `line` for a line of the spool that is damaged.
        row: The row; of a line its file and itself in base64.
        reason: What the database, or whoever looked before it, said.
    """

    table: str
    row: Any
    reason: str


def damaged_line(path: Path, line: bytes) -> Refusal:
    """Return the refusal of a line whose CRC does not fit."""
    return Refusal("line", {"file": path.name, "base64": base64.b64encode(line).decode()}, "The CRC does not fit")


def set_aside(folder: Path, refused: Sequence[Refusal]) -> None:
    """Append refusals to `refused.jsonl` and force it to the disk; after a crash one may stand there twice.

    Raises:
        OSError: The folder cannot be written to.
    """
    first = refused[0]
    log.error(
        "%d of %s and the like set aside in %s, because of: %s.", len(refused), first.table, REFUSED, first.reason
    )
    lines = b"".join(
        orjson.dumps(asdict(refusal), default=_json, option=orjson.OPT_PASSTHROUGH_SUBCLASS) + b"\n"
        for refusal in refused
    )
    with _held(folder / REFUSED) as descriptor:
        os.write(descriptor, lines)
        os.fsync(descriptor)


def put_away(folder: Path, gone: Callable[[Refusal], bool]) -> int:
    """Take refusals out of `refused.jsonl` for good, and return how many they were; a line that is none of ours stays.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = folder / REFUSED
    if not path.exists():
        return 0
    with _held(path):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if (refusal := _refusal(line)) is None or not gone(refusal)]
        if len(kept) < len(lines):
            fresh = path.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(descriptor)
            fresh.replace(path)
    return len(lines) - len(kept)


@contextmanager
def _held(path: Path) -> Generator[int]:
    """Open the file for appending, as the only one: whoever waits while it is written anew goes on in the new one."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # texts are for the owner alone
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _refusal(line: bytes) -> Refusal | None:
    try:
        return Refusal(**orjson.loads(line))
    except (ValueError, TypeError):
        return None


def _json(value: Any) -> orjson.Fragment:
    if isinstance(value, JsonText):
        return orjson.Fragment(str(value))
    raise TypeError(f"no row holds a {type(value).__name__}")
