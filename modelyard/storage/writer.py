"""Brings spooled usage to the database, in batches and off the request path; every row arrives once.

Rows carry their ids, and a row that is there already is left alone: after a crash between the database's commit and the spool's, the same
lines are read again and change nothing. While the database is gone, lines wait in their files. What can never be stored, a row that the
database refuses or a damaged line, is set aside in `refused.jsonl`, and the rest goes on.

What a dead process left is taken over: its finished requests are stored, and what it had begun becomes an orphan at its reserved cost.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from modelyard.storage.database import Database
from modelyard.storage.spool import Spool
from modelyard.storage.spool_lines import BATCH, Chunk, read_chunk
from modelyard.storage.spool_locks import Estate, Position, claimed, processes, remember, remembered, segment_path
from modelyard.storage.spool_refused import Refusal, damaged_line, set_aside
from modelyard.storage.spool_rows import RowStore, Unreachable, first_line

EVERY_S: Final = 0.25  # a batch costs half a millisecond beside what its rows cost; whoever cannot wait flushes
LONGEST_WAIT_S: Final = 5.0
ADOPT_S: Final = 30.0  # how often files of dead processes are looked for

log = logging.getLogger("modelyard.storage")


@dataclass(frozen=True, slots=True)
class Lag:
    """What this process has spooled and the database does not have yet.

    Attributes:
        rows: Finished requests.
        seconds: Since everything was stored; 0 where everything is.
    """

    rows: int
    seconds: float


class Writer:
    """A thread that drains a spool. It belongs to the process that made it: a forked child needs one of its own.

    Args:
        spool: This process'.
        database: Migrated when the first row comes, where it was not.
        every_s: Pause between looks at the spool.
        adopt_s: Pause between looks for dead processes.

    Attributes:
        written: Requests that were stored, orphans among them.
        orphans: Calls that dead processes had under way.
        refused: Rows that were set aside.
        damaged: Lines that were set aside.
    """

    def __init__(self, spool: Spool, database: Database, *, every_s: float = EVERY_S, adopt_s: float = ADOPT_S) -> None:
        self._spool, self._every_s, self._adopt_s = spool, every_s, adopt_s
        self._rows = RowStore(database)
        self._at: Position = spool.stored
        self._file: BinaryIO | None = None  # the segment at `_at`, open so that removing it loses nothing
        self._adopt_at, self._adopted = 0.0, False
        self._sound_at = time.monotonic()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._round = threading.Condition()
        self._begun_rounds = self._ended_rounds = 0
        self._problem: str | None = None
        self._adopt_problem: str | None = None
        self._pid = os.getpid()
        self.written = self.orphans = self.refused = self.damaged = 0
        self._thread = threading.Thread(target=self._run, name="modelyard-writer", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why rows cannot be stored, or None."""
        if os.getpid() != self._pid:
            return "Usage waits in the spool: this process was forked from the one that writes it."
        return self._problem or self._adopt_problem

    @property
    def lag(self) -> Lag:
        """How far the database is behind this process."""
        rows = self._spool.waiting
        return Lag(rows, time.monotonic() - self._sound_at if rows else 0.0)

    @property
    def lag_bytes(self) -> int:
        """Bytes of this process' spool that are not in the database yet."""
        (first, offset), (last, size) = self._at, self._spool.position
        if first == last:
            return max(0, size - offset)
        return max(0, sum(self._size(number) for number in range(first, last)) + size - offset)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was spooled before is in the database, and return whether that worked.

        That includes what dead processes left before the start. Returns early where the database takes nothing.
        """
        if os.getpid() != self._pid or not self._thread.is_alive():
            return False
        target = self._spool.position

        def done() -> bool:
            return self._at >= target and self._adopted and not self._spool.kept

        with self._round:
            asked = self._begun_rounds
            self._wake.set()
            self._round.wait_for(
                lambda: done() or (self._ended_rounds > asked and bool(self.problem or self._spool.problem)), timeout_s
            )
            return done()

    @property
    def folder(self) -> Path:
        """Where the spool lies."""
        return self._spool.folder

    def empty(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was spooled before is in the database and in no file any more, and return whether that worked."""
        self._spool.roll()
        return self.flush(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Store what can be stored, and stop; what cannot stays in the spool."""
        self.flush(timeout_s)
        self._closed.set()
        self._wake.set()
        if os.getpid() == self._pid:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._closed.is_set():
            with self._round:
                self._begun_rounds += 1
            sound = self._look()
            with self._round:
                self._ended_rounds = self._begun_rounds
                self._round.notify_all()
            wait_s = self._every_s if sound else min(2 * wait_s, LONGEST_WAIT_S)
            self._wake.wait(wait_s)
            self._wake.clear()
        self._close_file()

    def _look(self) -> bool:
        """Store what there is, and return whether that worked."""
        problem = None
        try:
            self._drain()
            if time.monotonic() >= self._adopt_at:
                self._adopt_all()
                self._adopt_at = time.monotonic() + self._adopt_s
        except Unreachable as error:
            problem = str(error)
        except Exception as error:  # whatever it is must not end the thread
            problem = f"Usage waits in the spool: {first_line(error)}."
            log.exception("Usage waits in the spool.")
        if (problem is None) != (self._problem is None):
            log.log(logging.ERROR if problem else logging.INFO, problem or "Usage reaches the database again.")
        self._problem = problem
        return problem is None

    def _drain(self) -> None:
        """Store what this process has spooled up to now.

        Raises:
            Unreachable: The database takes no rows now.
        """
        target = self._spool.position
        while self._at < target:
            number, offset = self._at
            file = self._opened(number)
            chunk = read_chunk(file, offset, finished=True) if file is not None else None
            if chunk is not None and chunk.end > offset:
                self._settle(segment_path(self._spool.folder, self._spool.process, number), chunk)
                self._at = number, chunk.end
                self._spool.store(self._at, len(chunk.entries))
            elif number < target[0]:
                self._next(number)
            else:
                return
        self._sound_at = time.monotonic()

    def _opened(self, number: int) -> BinaryIO | None:
        if self._file is None:
            try:
                self._file = segment_path(self._spool.folder, self._spool.process, number).open("rb")
            except FileNotFoundError:
                return None
        return self._file

    def _next(self, number: int) -> None:
        """Go on with the next segment; what is open in the last one stands in that, too."""
        self._close_file()
        self._spool.sync()
        self._at = number + 1, 0
        self._spool.store(self._at)
        try:
            segment_path(self._spool.folder, self._spool.process, number).unlink(missing_ok=True)
        except OSError as error:  # it is known to be stored
            log.warning("A segment of the spool in %s cannot be removed: %s.", self._spool.folder, error.strerror)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _size(self, number: int) -> int:
        try:
            return segment_path(self._spool.folder, self._spool.process, number).stat().st_size
        except OSError:
            return 0

    def _adopt_all(self) -> None:
        """Store what dead processes left.

        Raises:
            Unreachable: The database takes no rows now.
        """
        folder = self._spool.folder
        try:
            for process in processes(folder):
                if process != self._spool.process:
                    with claimed(folder, process) as estate:
                        if estate is not None:
                            self._adopt(estate)
        except OSError as error:
            self._adopt_problem = f"What a dead process left in {folder} cannot be taken over: {error.strerror}."
            return
        self._adopt_problem, self._adopted = None, True

    def _adopt(self, estate: Estate) -> None:
        """Store a dead process' finished requests, and charge what it had begun."""
        stored = remembered(estate.descriptor)
        begun: dict[str, Mapping[str, Any]] = {}
        for number, path in estate.segments:
            offset = 0
            with path.open("rb") as file:
                while (chunk := read_chunk(file, offset, _limit(number, offset, stored))).end > offset:
                    new = (number, offset) >= stored
                    offset = chunk.end
                    for entry in chunk.entries:
                        if entry.kind == "begin":
                            begun[entry.id] = entry.facts
                        else:
                            begun.pop(entry.id, None)
                    if new:
                        self._settle(path, chunk)
                        remember(estate.descriptor, (number, offset))
                        self._drain()
            torn = path.stat().st_size - offset
            if torn:
                log.warning("The last line of %s is torn: %d bytes were left out.", path, torn)
        orphans = list(begun.values())
        for start in range(0, len(orphans), BATCH):
            self._store([{"message": None, "usages": [facts]} for facts in orphans[start : start + BATCH]])
        self.orphans += len(orphans)
        if orphans:
            log.warning(
                "The process %s was killed with %d calls under way: they are charged.", estate.process, len(orphans)
            )
        estate.discard()

    def _settle(self, path: Path, chunk: Chunk) -> None:
        self._store([entry.facts for entry in chunk.entries if entry.kind == "finish"])
        if chunk.damaged:
            set_aside(self._spool.folder, [damaged_line(path, line) for line in chunk.damaged])
            self.damaged += len(chunk.damaged)

    def _store(self, ended: Sequence[Mapping[str, Any]]) -> None:
        if not ended:
            return
        refused: Sequence[Refusal] = self._rows.store(ended)
        if refused:  # before the spool forgets them
            set_aside(self._spool.folder, refused)
            self.refused += len(refused)
        self.written += len(ended)


def _limit(number: int, offset: int, stored: Position) -> int | None:
    """Return where reading a segment stops first: no row that is stored is stored again, since it may have been deleted meanwhile."""
    return stored[1] if number == stored[0] and offset < stored[1] else None
