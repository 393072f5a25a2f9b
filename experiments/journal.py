"""The journal of a collection: every answer that was paid for, on disk before it counts.

One JSON line an answer. A process that dies can leave half a line at the end, which the next run cuts off. Calls that were under way at
that moment were never written and are made again, so that at most as many calls as ran at once can be paid for twice.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from modelyard.errors import InvalidInput

try:
    import fcntl
except ImportError:  # Windows: two collections into one file are then not noticed
    fcntl = None


class Key(NamedTuple):
    """What makes two calls the same call: then the answer that is there is taken.

    Attributes:
        eval_set: Version of the eval set.
        prompt_id: The prompt's id in it.
        model: The catalogue's name.
        fingerprint: Hash of all else that shapes the answer or its price.
    """

    eval_set: str
    prompt_id: str
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. Its score is not kept: another way of scoring costs no new calls."""

    eval_set: str
    prompt_id: str
    model: str
    fingerprint: str
    text: str
    finish_reason: str
    cost_usd: float
    latency_ms: float
    prompt_tokens: int
    completion_tokens: int

    @property
    def key(self) -> Key:
        """Which call it answers."""
        return Key(self.eval_set, self.prompt_id, self.model, self.fingerprint)


class Journal:
    """An open journal; use it as a context manager.

    Raises:
        InvalidInput: A line in the middle is damaged, or another collection is writing to the same file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[Key, Entry] = {}
        self._file: IO[bytes] | None = None
        self._lock = asyncio.Lock()
        self._written = self._synced = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        opened = self.path.open("a+b")
        try:
            _claim(opened, self.path)
            self.entries = _read(opened, self.path)
        except BaseException:
            opened.close()
            raise
        self._file = opened
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._file = self._file, None
        if opened is not None:
            opened.close()

    async def append(self, entry: Entry) -> None:
        """Write an answer and wait until the disk has it; answers that come meanwhile go to the disk together."""
        if self._file is None:
            raise InvalidInput(f"The journal {self.path} is not open.")
        self._file.write(json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self._written += 1
        mine = self._written
        async with self._lock:
            if self._synced < mine:
                until = self._written
                await asyncio.to_thread(os.fsync, self._file.fileno())
                self._synced = until
        self.entries[entry.key] = entry


def _claim(opened: IO[bytes], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(
            f"Another collection is writing to {path}; wait for it, or give this one another --out."
        ) from None


def _read(opened: IO[bytes], path: Path) -> dict[Key, Entry]:
    opened.seek(0)
    content = opened.read()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        opened.truncate(len(whole))
    entries: dict[Key, Entry] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        entry = _entry(line, f"{path}, row {number}")
        entries[entry.key] = entry
    return entries


def _entry(line: bytes, where: str) -> Entry:
    try:
        row: Any = json.loads(line)
        return Entry(**row)
    except (ValueError, TypeError):
        raise InvalidInput(
            f"{where} is damaged: expected a recorded answer; take the line out to have the call made again."
        ) from None
