"""Deletion of everything of one user or project, also of what is on its way to the database or was set aside from it.

Other processes follow: they store nothing of the deleted, and clear their own files and caches when they come to look (`follow`).
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable
from typing import Any, Final

import orjson
from sqlalchemy import Connection, select

from modelyard.storage.database import Database, StorageError
from modelyard.storage.deletions import Deletions, Kind, digest_of
from modelyard.storage.retention import delete_project, delete_user
from modelyard.storage.spool_refused import Refusal, put_away
from modelyard.storage.tables import Deletion, Message
from modelyard.storage.writer import Writer

FLUSH_S: Final = 10.0
_OWNER: Final = re.compile(rb'"(user_id|project_id)":("(?:[^"\\]|\\.)*")')


class Erasure:
    """Deletes users and projects, here and in the database; safe to share between threads.

    Args:
        database: Where their rows are.
        writer: This process'.
        forget: Forgets what this process has cached.
    """

    def __init__(self, database: Database, writer: Writer, forget: Callable[[], None]) -> None:
        self._database, self._writer, self._forget = database, writer, forget
        self._known, self._behind = Deletions(), False
        self._lock = threading.Lock()

    def user(self, user_id: str, *, keep_charges: bool = False) -> dict[str, int]:
        """Delete a user as `delete_user` does, with what has not reached the database yet, and return how many rows went, by table.

        Raises:
            InvalidInput: The name is empty.
            StorageError: The database failed, or does not take what waits in the spool; calling again completes it.
        """
        return self._deleted(lambda: delete_user(self._database, user_id, keep_charges=keep_charges))

    def project(self, project_id: str) -> dict[str, int]:
        """Delete a project as `delete_project` does, with what has not reached the database yet; returns and raises as `user` does."""
        return self._deleted(lambda: delete_project(self._database, project_id))

    def was_deleted(self, kind: Kind, name: str) -> bool:
        """Whether a user or project was ever deleted, perhaps not to the end.

        Raises:
            StorageError: The database failed.
        """
        query = select(Deletion.id).where(Deletion.kind == kind, Deletion.subject == digest_of(name))
        with self._database.read() as session:
            return session.scalar(query) is not None

    def follow(self) -> bool:
        """Clear this process' files and caches where somebody was deleted since the last call, and return whether that was so.

        Raises:
            StorageError: The database failed; the next call makes up for it.
        """
        with self._lock, self._database.connected() as connection:
            self._behind |= self._known.read(connection)
            if not self._behind:
                return False
            self._clear(connection)
            self._behind = False
        return True

    def _deleted(self, rows: Callable[[], dict[str, int]]) -> dict[str, int]:
        if not self._writer.flush(FLUSH_S):
            raise self._unable("Nothing was deleted")
        deleted = rows()
        with self._lock, self._database.connected() as connection:
            self._known.read(connection)
            self._behind = True  # a request that is under way may leave its answer once more: `follow` clears that
            self._clear(connection)
        self._database.tidy()
        return deleted

    def _clear(self, connection: Connection) -> None:
        self._forget()
        if not self._writer.empty(FLUSH_S):
            raise self._unable("Texts of what was deleted still lie in the spool")
        folder = self._writer.folder
        try:
            put_away(folder, lambda refusal: _goes(refusal, self._known, connection))
        except OSError as error:
            raise StorageError(f"Refused rows in {folder} cannot be deleted: {error.strerror}.") from error

    def _unable(self, what: str) -> StorageError:
        reason = (self._writer.problem or "it takes longer than usual").rstrip(".")
        return StorageError(f"{what}, since usage does not reach the database now ({reason}): try again later.")


def _goes(refusal: Refusal, known: Deletions, connection: Connection) -> bool:
    """Whether what was set aside belongs to somebody who was deleted."""
    row: Any = refusal.row
    match refusal.table:
        case "line":
            return _damaged_line_goes(row, known)
        case "fragment":  # its message was stored
            return not _stored(connection, row)
        case "message":
            row = {"message": row, "usages": ()}
        case "usage":
            row = {"message": None, "usages": [row]}
        case _:
            pass
    return known.spared(row) is not row


def _stored(connection: Connection, fragment: Any) -> bool:
    found = select(Message.id).where(Message.id == (fragment or {}).get("message_id"))
    return connection.execute(found).first() is not None


def _damaged_line_goes(row: Any, known: Deletions) -> bool:
    """Look for owners in what is left of a line."""
    try:
        found = _OWNER.findall(base64.b64decode(row["base64"]))
        return any(
            known.covers("user" if column == b"user_id" else "project", orjson.loads(name)) for column, name in found
        )
    except (binascii.Error, ValueError, TypeError, LookupError):
        return False
