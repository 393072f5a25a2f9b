"""Stores answers beside serving them: a database that fails costs the record, never the answer, and says so."""

from __future__ import annotations

import logging
import threading

from modelyard.errors import ModelyardError
from modelyard.storage import Database, record_answer
from modelyard.types import Answer, Message

log = logging.getLogger("modelyard.serving")


class Recorder:
    """Writes answers to the database; call it from a worker thread.

    Args:
        url: SQLAlchemy URL of the database.

    Raises:
        InvalidSetting: The URL cannot be used at all.
        MissingExtra: The URL's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._migrated = False
        self._lock = threading.Lock()
        self._lost = 0
        self._problem: str | None = None  # of the last answer that was to be stored

    @property
    def lost(self) -> int:
        """How many answers could not be stored since the start."""
        return self._lost

    def problem(self) -> str | None:
        """Look at the database and return what is wrong with it, or None."""
        try:
            self._migrate_once()
            self._database.revision()
        except ModelyardError as error:
            return str(error)
        return self._problem

    def record(self, message: Message, answer: Answer, *, composite: str, latency_ms: float) -> bool:
        """Store an answer and return whether that worked; where it did not, the log says why."""
        try:
            self._migrate_once()
            record_answer(self._database, message, answer, composite=composite, latency_ms=latency_ms)
        except ModelyardError as error:
            self._lost += 1
            self._problem = str(error)
            log.error("The answer %s was given but not stored: %s", answer.id, error)
            return False
        self._problem = None
        return True

    def _migrate_once(self) -> None:
        with self._lock:
            if not self._migrated:
                self._database.migrate()
                self._migrated = True

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()
