"""What can never be stored: appended to a file beside the spool, for a person to look at."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Sequence
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
    descriptor = os.open(
        folder / REFUSED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )  # texts are for the owner alone
    with os.fdopen(descriptor, "ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(descriptor)


def _json(value: Any) -> orjson.Fragment:
    if isinstance(value, JsonText):
        return orjson.Fragment(str(value))
    raise TypeError(f"no row holds a {type(value).__name__}")
