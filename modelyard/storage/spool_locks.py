"""Which process a spool's files belong to, and whether it lives.

A process holds `<process>.lock` for as long as it lives, from before its first segment on: the kernel lets go of the lock when it is dead,
however it died. Names and clocks say nothing, so that a number used again or a clock set back misleads nobody. Whoever takes the lock of a
dead process keeps it while reading what that left, so that two do not.

The lock file also remembers how far its process' segments are stored: the segment's number and an offset in it.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIX: Final = ".spool"
LOCK: Final = ".lock"
START: Final = (0, 0)

Position = tuple[int, int]  # the number of a segment, and an offset in it in bytes


def segment_path(folder: Path, process: str, number: int) -> Path:
    """Return the path of a process' segment."""
    return folder / f"{process}-{number:06d}{SUFFIX}"


def lock_path(folder: Path, process: str) -> Path:
    """Return the path of a process' lock."""
    return folder / f"{process}{LOCK}"


def hold(folder: Path, process: str) -> int:
    """Take the lock of this process, and return its file descriptor.

    Raises:
        OSError: The folder cannot be written to.
    """
    fresh = lock_path(folder, process).with_suffix(".new")
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(lock_path(folder, process))  # nobody sees it unlocked
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remember(descriptor: int, position: Position) -> None:
    """Write how far a process' segments are stored into its lock.

    Raises:
        OSError: The disk is full or broken.
    """
    text = b"%016x%016x" % position
    os.pwrite(descriptor, b"%s%08x" % (text, zlib.crc32(text)), 0)


def remembered(descriptor: int) -> Position:
    """Return how far a process' segments are stored; the start where that is not known, since rows may be stored twice without harm."""
    found = os.pread(descriptor, 40, 0)
    try:
        sound = len(found) == 40 and zlib.crc32(found[:32]) == int(found[32:], 16)
        return (int(found[:16], 16), int(found[16:32], 16)) if sound else START
    except ValueError:
        return START


@dataclass(frozen=True, slots=True)
class Estate:
    """What a dead process left, held so that nobody else takes it."""

    folder: Path
    process: str
    descriptor: int

    @property
    def segments(self) -> tuple[tuple[int, Path], ...]:
        """Its segments by number, in the order they were written."""
        found = (path for path in self.folder.glob(f"{self.process}-*{SUFFIX}"))
        return tuple(sorted((int(path.stem.rsplit("-", 1)[1]), path) for path in found))

    def discard(self) -> None:
        """Delete its files, the lock at the end.

        Raises:
            OSError: The folder cannot be written to.
        """
        for _, path in self.segments:
            path.unlink(missing_ok=True)
        lock_path(self.folder, self.process).unlink(missing_ok=True)


def processes(folder: Path) -> tuple[str, ...]:
    """Return the names of all processes, dead or alive, that files in the folder belong to."""
    segments = {path.stem.rsplit("-", 1)[0] for path in folder.glob(f"*-[0-9]*{SUFFIX}")}
    return tuple(sorted(segments | {path.stem for path in folder.glob(f"*{LOCK}")}))


@contextmanager
def claimed(folder: Path, process: str) -> Generator[Estate | None]:
    """Hold what a process left while the block runs; None where it lives, or another one is at it.

    Raises:
        OSError: The folder cannot be written to.
    """
    path = lock_path(folder, process)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        free = False
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = path.stat().st_ino == os.fstat(descriptor).st_ino
        yield Estate(folder, process, descriptor) if free else None
    finally:
        os.close(descriptor)
