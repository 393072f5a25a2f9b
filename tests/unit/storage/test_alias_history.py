from __future__ import annotations

from datetime import UTC, datetime

import pytest

from modelyard.storage import AliasMove, Database, StorageError, alias_moves, append_alias_move

FIRST = AliasMove("router", "champion", None, "1", "bootstrap", "ada", "the first of all")
SECOND = AliasMove(
    "router", "champion", "1", "2", "promote", "ada", "better", ("run-a", "run-b"), {"outcome": "better", "n": 400},
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)  # fmt: skip
OTHER = AliasMove("classifier", "champion", "7", "6", "rollback", "bob", "worse on Tuesdays")


def test_history_is_read_newest_first_and_whole(database: Database) -> None:
    numbers = [append_alias_move(database, move) for move in (FIRST, SECOND, OTHER)]
    assert numbers == sorted(set(numbers))
    assert alias_moves(database) == (OTHER, SECOND, FIRST)


def test_history_of_one_component(sqlite: Database) -> None:
    for move in (FIRST, SECOND, OTHER):
        append_alias_move(sqlite, move)
    assert alias_moves(sqlite, "router", "champion", limit=1) == (SECOND,)
    assert alias_moves(sqlite, "classifier") == (OTHER,)
    assert alias_moves(sqlite, alias="challenger") == ()


def test_unknown_action_is_refused_by_the_database(sqlite: Database) -> None:
    with pytest.raises(StorageError, match="CHECK constraint failed: ck_alias_change_action"):
        append_alias_move(sqlite, AliasMove("router", "champion", None, "1", "guess", "ada", "felt right"))  # type: ignore[arg-type]
