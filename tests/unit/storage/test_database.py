from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, select, text

from modelyard.errors import InvalidSetting, MissingExtra
from modelyard.storage import AliasMove, Database, StorageError, alias_moves, append_alias_move
from modelyard.storage.tables import AliasChange, Base


def test_migrations_and_declarative_metadata_agree(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrations_and_metadata_have_the_same_checks(database: Database) -> None:
    inspector = inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        declared = {str(check.name) for check in table.constraints if isinstance(check, CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == declared


def test_migrating_twice_changes_nothing(database: Database) -> None:
    assert database.revision() == database.head
    assert database.migrate() == database.head


def test_downgrade_removes_every_table(database: Database) -> None:
    database.downgrade("base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]


def test_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE alias_change (id INTEGER)"))  # in the way of the migration's last table
    with pytest.raises(StorageError, match="alias_change already exists"):
        database.migrate()
    assert inspect(database.engine).get_table_names() == ["alias_change"]
    assert database.revision() is None
    database.close()


def test_a_fresh_database_has_no_revision(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    assert database.revision() is None
    database.close()


def test_sqlite_file_gets_its_folder_and_its_manners(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a' / 'b' / 'yard.db'}")
    with database.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}


def test_write_is_all_or_nothing(sqlite: Database) -> None:
    row = AliasChange(
        who="w", component="router", alias="champion", to_version="1", reason="r", run_ids=[], action="promote"
    )
    with pytest.raises(RuntimeError, match="half-way"), sqlite.write() as session:
        session.add(row)
        session.flush()
        raise RuntimeError("half-way")
    with sqlite.read() as session:
        assert session.scalars(select(AliasChange)).all() == []


def test_missing_tables_are_one_sentence(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    with pytest.raises(
        StorageError, match=r"^The database sqlite:///.*yard\.db failed: .*no such table: alias_change\.$"
    ):
        alias_moves(database)
    database.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "not a url"])
def test_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="MODELYARD_DATABASE_URL must"):
        Database(url)


def test_absent_driver_is_named() -> None:
    with pytest.raises(MissingExtra, match="needs a driver that is not installed"):
        Database("mysql+aiomysqlx://u:secret@localhost/x")


def test_url_is_shown_without_its_password() -> None:
    with pytest.raises(MissingExtra) as caught:
        Database("mysql+aiomysqlx://u:secret@localhost/x")
    assert "secret" not in str(caught.value)


def _migrate_and_append(url: str, writers: int) -> None:
    database = Database(url)
    database.migrate()
    for number in range(writers):
        append_alias_move(database, AliasMove("router", "champion", None, str(number), "promote", "test", "because"))
    database.close()


def test_processes_migrate_and_write_the_same_new_file_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'yard.db'}"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_migrate_and_append, args=(url, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    database = Database(url)
    stored = len(alias_moves(database))
    database.close()
    assert [process.exitcode for process in processes] == [0] * 4
    assert stored == 20
