"""Usage on its way to the database: a file that is appended to before an answer's last byte, and read by `modelyard.storage.writer`.

    <folder>/<process>-<number>.spool     one line an entry:  kind, CRC-32 of the rest in hex, JSON

An entry is in the operating system's hands when `begin` or `finish` returns: a killed process loses nothing of it. It is forced to the
disk every `SYNC_S`: a power cut may lose the last 100 ms. Every process writes files of its own and holds a lock on each as long as it
lives, so that another one can tell whether it is dead and take over what it left.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import orjson

SYNC_S: Final = 0.1
SEGMENT_BYTES: Final = 16 << 20
KEPT: Final = 10_000  # entries held in memory while the folder cannot be written to
SUFFIX: Final = ".spool"

Kind = Literal["begin", "finish"]
_LETTER: Final[Mapping[Kind, bytes]] = {"begin": b"B", "finish": b"F"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what was begun, or the rows of what has ended."""

    kind: Kind
    id: str
    facts: Mapping[str, Any]


class Spool:
    """Appends entries; safe to share between threads, and never raises into a request.

    Args:
        folder: Made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._number = self._size = 0
        self._dirty = False
        self._open: dict[str, bytes] = {}  # begun and not finished: they move to the next file
        self._kept: deque[bytes] = deque()
        self._dropped = 0
        self._problem: str | None = None
        self._closed = threading.Event()
        with self._lock:
            self._roll()
        self._syncer = threading.Thread(target=self._sync_often, name="modelyard-spool", daemon=True)
        self._syncer.start()

    @property
    def problem(self) -> str | None:
        """Why entries cannot be written, or None."""
        return self._problem

    @property
    def dropped(self) -> int:
        """Entries that were lost, because the folder could not be written to for too long."""
        return self._dropped

    @property
    def current(self) -> Path:
        """The file that is written to now."""
        return self._path(self._number)

    def begin(self, id: str, facts: Mapping[str, Any]) -> None:
        """Note that a call that costs something is about to be made: `facts` is the usage row of the orphan that it may become."""
        line = encode(Entry("begin", id, facts))
        with self._lock:
            self._open[id] = line
            self._write(line)

    def finish(self, id: str, rows: Mapping[str, Any]) -> None:
        """Hand over what a request became: `{"message": row or None, "usages": [row, …]}`, with the columns of the tables."""
        line = encode(Entry("finish", id, rows))
        with self._lock:
            self._open.pop(id, None)
            self._write(line)

    def sync(self) -> None:
        """Force what was written to the disk."""
        with self._lock:
            descriptor, dirty, self._dirty = self._descriptor, self._dirty, False
            copy = os.dup(descriptor) if dirty and descriptor is not None else None
        if copy is not None:
            try:
                os.fsync(copy)
            except OSError as error:
                self._problem = _said(self.folder, error)
            finally:
                os.close(copy)

    def close(self) -> None:
        """Force everything to the disk and let the file go; what is open stays open in it, and becomes an orphan."""
        self._closed.set()
        self._syncer.join()
        self.sync()
        with self._lock:
            self._release()

    def _write(self, line: bytes) -> None:
        if self._kept:
            self._kept.append(line)
            self._flush_kept()
            return
        if not self._append(line):
            self._keep(line)

    def _append(self, line: bytes) -> bool:
        if self._descriptor is None or self._size > SEGMENT_BYTES:
            self._roll()
        if self._descriptor is None:
            return False
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):  # the disk is full: end the torn line, so that only it is lost
                os.ftruncate(self._descriptor, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._problem = _said(self.folder, error)
            return False
        self._size += len(line)
        self._dirty = True
        self._problem = None
        return True

    def _keep(self, line: bytes) -> None:
        self._kept.append(line)
        while len(self._kept) > KEPT:
            self._kept.popleft()
            self._dropped += 1

    def _flush_kept(self) -> None:
        while self._kept and self._append(self._kept[0]):
            self._kept.popleft()
        while len(self._kept) > KEPT:
            self._kept.popleft()
            self._dropped += 1

    def _roll(self) -> None:
        """Go on in a new file, with what is open in it, too."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._path(self._number + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            head = b"".join(self._open.values())
            if os.write(descriptor, head) < len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._problem = _said(self.folder, error)
            return
        self._release()
        self._descriptor, self._size = descriptor, len(head)
        self._number += 1

    def _release(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.process}-{number:06d}{SUFFIX}"

    def _sync_often(self) -> None:
        while not self._closed.wait(SYNC_S):
            with self._lock:
                if self._kept:
                    self._flush_kept()
            self.sync()


def encode(entry: Entry) -> bytes:
    """Return an entry's line."""
    try:
        payload = orjson.dumps([entry.id, entry.facts], default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # lone surrogates, which JSON from outside may hold and no database takes
        text = json.dumps([entry.id, entry.facts], default=_plain, ensure_ascii=False)
        payload = text.encode("utf-8", "replace")
    return b"%s%08x%s\n" % (_LETTER[entry.kind], zlib.crc32(payload), payload)


def decode(line: bytes) -> Entry | None:
    """Return a line's entry, or None where it is torn or damaged."""
    kind: Kind = "begin" if line[:1] == b"B" else "finish"
    try:
        if line[:1] not in {b"B", b"F"} or zlib.crc32(line[9:]) != int(line[1:9], 16):
            return None
        id, facts = orjson.loads(line[9:])
    except ValueError:
        return None
    return Entry(kind, id, facts)


def abandoned(folder: Path, own: str) -> dict[str, list[Path]]:
    """Return the files of processes that are dead, by process, in the order they were written."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        process = path.stem.rsplit("-", 1)[0]
        if process != own:
            found.setdefault(process, []).append(path)
    return {process: paths for process, paths in found.items() if _unlocked(paths)}


def _unlocked(paths: Iterable[Path]) -> bool:
    """Return whether nobody holds a lock on any of these files."""
    for path in paths:
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:  # its own process, or another one, was faster
            return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value)


def _said(folder: Path, error: OSError) -> str:
    return f"Usage cannot be written to {folder}: {error.strerror}."
