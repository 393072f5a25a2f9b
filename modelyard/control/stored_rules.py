"""Rules of alerts that operators set while everything runs; they lie in the database, in the place of a file's."""

from __future__ import annotations

from typing import Final

from modelyard.control.alert_rules import AlertRules
from modelyard.storage.database import Database
from modelyard.storage.tables import StoredSetting, now

NAME: Final = "alert_rules"
LONGEST_AUTHOR: Final = 200


def stored_rules(database: Database) -> AlertRules | None:
    """Return the rules that were stored, or None where a file's count.

    Raises:
        InvalidSetting: They are not valid, as a newer version's may be.
        StorageError: The database failed.
    """
    with database.read() as session:
        row = session.get(StoredSetting, NAME)
        found = None if row is None else row.value
    return None if found is None else AlertRules.of(found, "The stored alert rules")


def store_rules(database: Database, rules: AlertRules, *, by: str) -> None:
    """Store rules, in the place of those that were stored before.

    Raises:
        StorageError: The database failed; nothing was changed.
    """
    with database.write() as session:
        row = session.get(StoredSetting, NAME) or StoredSetting(name=NAME)
        row.value, row.updated_at, row.updated_by = rules.model_dump(mode="json"), now(), by[:LONGEST_AUTHOR]
        session.add(row)


def drop_rules(database: Database) -> None:
    """Forget stored rules; a file's count again.

    Raises:
        StorageError: The database failed; nothing was changed.
    """
    with database.write() as session:
        row = session.get(StoredSetting, NAME)
        if row is not None:
            session.delete(row)
