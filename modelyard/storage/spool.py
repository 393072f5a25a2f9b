"""Usage on its way to the database: a file that is appended to before an answer's last byte, and read by `modelyard.storage.writer`.

    <folder>/<process>-<number>.spool     segments, one line an entry
    <folder>/<process>.lock               held while the process lives

An entry is in the operating system's hands when `begin` or `finish` returns: a killed process loses nothing of it. It is forced to the
disk every `SYNC_S`: a power cut may lose the last 100 ms. While the folder cannot be written to, entries are held in memory, and are lost
with the process. The folder must be on a disk of this machine.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelyard.storage.spool_lines import Entry, encode
from modelyard.storage.spool_locks import START, Position, hold, lock_path, remember, segment_path

SYNC_S: Final = 0.1
SEGMENT_BYTES: Final = 16 << 20
SEGMENT_S: Final = 60.0  # texts of deleted users do not linger in a file that nothing more is written to
KEPT: Final = 10_000  # entries held in memory while the folder cannot be written to
KEPT_BYTES: Final = 64 << 20
KEPT_AT_ONCE: Final = 100  # of these are written before others have their turn
LONGEST_LINE: Final = 64 << 20  # bytes; a longer row keeps its usage alone

log = logging.getLogger("modelyard.storage")


class Spool:
    """Appends entries; safe to share between threads, and never raises into a request. A forked child goes on in files of its own.

    Args:
        folder: Made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed = threading.Event()
        self._reset()
        _SPOOLS.add(self)
        with self._lock:
            self._roll()
        self._start()

    def _reset(self) -> None:
        self.process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._descriptor: int | None = None
        self._held: int | None = None
        self._retired: list[int] = []  # files that are written, and not forced to the disk yet
        self._number = self._size = self._head = 0
        self._opened = 0.0
        self._stored: Position = START
        self._dirty = self._fresh = False
        self._open: dict[str, bytes] = {}  # begun and not finished: they move to the next segment
        self._kept: deque[bytes] = deque()
        self._kept_bytes = self._dropped = self._waiting = 0
        self._problem: str | None = None
        self._sync_problem: str | None = None
        self._syncer: threading.Thread | None = None

    @property
    def problem(self) -> str | None:
        """Why entries cannot be written, or None."""
        return self._problem or self._sync_problem

    @property
    def dropped(self) -> int:
        """Entries that were lost, because the folder could not be written to for too long."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Finished requests that are not in the database yet."""
        return self._waiting

    @property
    def kept(self) -> int:
        """Entries that are in memory alone, because the folder cannot be written to."""
        return len(self._kept)

    @property
    def current(self) -> Path:
        """The segment that is written to now."""
        return segment_path(self.folder, self.process, self._number)

    @property
    def position(self) -> Position:
        """The end of what was written."""
        with self._lock:
            return self._number, self._size

    @property
    def stored(self) -> Position:
        """How far entries are in the database."""
        return self._stored

    def begin(self, id: str, facts: Mapping[str, Any]) -> None:
        """Note that a call that costs something is about to be made: `facts` is the usage row of the orphan that it may become."""
        line = encode(Entry("begin", id, facts))
        with self._lock:
            self._open[id] = line
            self._write(line)

    def finish(self, id: str, rows: Mapping[str, Any]) -> None:
        """Hand over what a request became: `{"message": row or None, "usages": [row, …]}`, with the columns of the tables."""
        line = encode(Entry("finish", id, rows))
        if len(line) > LONGEST_LINE:
            log.error(
                "The row of request %s has %d bytes, more than %d: its usage alone is kept.",
                id,
                len(line),
                LONGEST_LINE,
            )
            line = encode(Entry("finish", id, {"message": None, "usages": rows.get("usages", ())}))
        with self._lock:
            self._open.pop(id, None)
            self._waiting += 1
            self._write(line)

    def store(self, position: Position, requests: int = 0) -> None:
        """Remember that everything before a position is in the database: so many finished requests more than before."""
        with self._lock:
            self._stored = position
            self._waiting -= requests
            try:
                if self._held is not None:
                    remember(self._held, position)
            except OSError as error:
                self._problem = _said(self.folder, error)

    def roll(self) -> None:
        """Go on in a new segment, so that the writer can delete the old one; one that nothing was finished in is gone on with."""
        with self._lock:
            if self._descriptor is not None and self._size > self._head:
                self._roll()

    def sync(self) -> None:
        """Force what was written to the disk."""
        with self._sync_lock:  # files are closed here alone: what is forced stays open
            with self._lock:
                retired, self._retired = self._retired, []
                current = self._descriptor if self._dirty else None
                fresh, self._dirty, self._fresh = self._fresh, False, False
            failures = [_forced(descriptor, close=True) for descriptor in retired]
            if current is not None:
                failures.append(_forced(current, close=False))
            if fresh:
                failures.append(_sync_folder(self.folder))
            if failures:
                error = next((error for error in failures if error), None)
                self._sync_problem = error and _said(self.folder, error)

    def close(self) -> None:
        """Force everything to the disk and let go of the files; what is open stays open in them, and becomes an orphan.

        Files whose entries are all stored are deleted.
        """
        self._closed.set()
        if self._syncer is not None:
            self._syncer.join()
        with self._lock:
            while self._kept and self._append(self._kept[0]):
                self._forget_kept()
            done = not self._open and not self._kept and self._stored >= (self._number, self._size)
            path, self._descriptor, descriptor = self.current, None, self._descriptor
            self._retired += [] if descriptor is None else [descriptor]
            held, self._held = self._held, None
        self.sync()
        try:
            if done:
                path.unlink(missing_ok=True)
                lock_path(self.folder, self.process).unlink(missing_ok=True)
        except OSError as error:
            log.warning("The spool's file %s is left for the next start: %s.", path, error.strerror)
        if held is not None:
            os.close(held)

    def _write(self, line: bytes) -> None:
        if self._syncer is None:  # in a forked child, which has no threads but its own
            self._start()
        if self._kept or not self._append(line):
            self._keep(line)

    def _append(self, line: bytes) -> bool:
        if self._descriptor is None or self._size - self._head > SEGMENT_BYTES:
            self._roll()
        if self._descriptor is None:
            return False
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            self._problem = _said(self.folder, error)
            return False
        if written < len(line):  # the disk is full
            self._cut_torn_line(self._descriptor)
            self._problem = _said(self.folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            return False
        self._size += len(line)
        self._dirty = True
        self._problem = None
        return True

    def _cut_torn_line(self, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:  # then nothing may follow it
            self._retired.append(descriptor)
            self._descriptor = None

    def _keep(self, line: bytes) -> None:
        self._kept.append(line)
        self._kept_bytes += len(line)
        while len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES:
            self._waiting -= self._forget_kept().startswith(b"F")
            self._dropped += 1

    def _forget_kept(self) -> bytes:
        line = self._kept.popleft()
        self._kept_bytes -= len(line)
        return line

    def _roll(self) -> None:
        """Go on in a new segment, with what is open in it, too."""
        head = b"".join(self._open.values())
        descriptor = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._hold()
            path = segment_path(self.folder, self.process, self._number + 1)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            if os.write(descriptor, head) < len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._problem = _said(self.folder, error)
            self._head = self._size  # the old one is gone on with, if there is one
            if descriptor is not None:
                os.close(descriptor)
            return
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
        self._descriptor, self._size, self._head = descriptor, len(head), len(head)
        self._number += 1
        self._opened = time.monotonic()
        self._dirty = self._fresh = True

    def _hold(self) -> None:
        """Take this process' lock, where it is not held or its file was removed."""
        if self._held is not None:
            if lock_path(self.folder, self.process).exists():
                return
            os.close(self._held)
            self._held = None
        self._held = hold(self.folder, self.process)
        remember(self._held, self._stored)

    def _start(self) -> None:
        self._syncer = threading.Thread(target=self._sync_often, name="modelyard-spool", daemon=True)
        self._syncer.start()

    def _sync_often(self) -> None:
        while not self._closed.wait(SYNC_S):
            try:
                self._look()
                self.sync()
            except Exception:
                log.exception("The spool's thread failed, and goes on.")

    def _look(self) -> None:
        """Write what was kept, and go on in a new segment where the old one is old or was removed."""
        while self._kept:
            with self._lock:
                for _ in range(min(KEPT_AT_ONCE, len(self._kept))):
                    if not self._append(self._kept[0]):
                        return
                    self._forget_kept()
        with self._lock:
            if self._descriptor is None:
                return
            if not self.current.exists():
                log.error("The spool's file %s was removed while it was written to.", self.current)
                self._roll()
            elif self._size > self._head and time.monotonic() - self._opened > SEGMENT_S:
                self._roll()

    def start_anew(self) -> None:
        """Leave the files to the parent: this is a forked child."""
        for descriptor in (self._descriptor, self._held, *self._retired):
            if descriptor is not None:
                os.close(descriptor)
        self._closed = threading.Event()
        self._reset()


_SPOOLS: Final[weakref.WeakSet[Spool]] = weakref.WeakSet()


def _in_child() -> None:
    for spool in tuple(_SPOOLS):
        spool.start_anew()


os.register_at_fork(after_in_child=_in_child)


def _forced(descriptor: int, *, close: bool) -> OSError | None:
    """Force a file to the disk, and return what went wrong."""
    problem = None
    try:
        os.fsync(descriptor)
    except OSError as error:
        problem = error
    try:
        if close:
            os.close(descriptor)
    except OSError as error:
        problem = error
    return problem


def _sync_folder(folder: Path) -> OSError | None:
    """Force new names in a folder to the disk, and return what went wrong."""
    try:
        return _forced(os.open(folder, os.O_RDONLY), close=True)
    except OSError as error:
        return error


def _said(folder: Path, error: OSError) -> str:
    return f"Usage cannot be written to {folder}: {error.strerror}."
