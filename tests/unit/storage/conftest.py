from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from modelyard.storage import Database

POSTGRES = "postgresql+psycopg://postgres@localhost:5432"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def empty_postgresql() -> Iterator[Database]:
    """An empty PostgreSQL database of the test's own, dropped afterwards."""
    if importlib.util.find_spec("psycopg") is None:
        _absent("the driver psycopg is not installed")
    server = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    name = f"modelyard_test_{uuid.uuid4().hex}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError as error:
        server.dispose()
        _absent(f"no PostgreSQL answers at localhost:5432 ({error.orig})")
    database = Database(f"{POSTGRES}/{name}")
    yield database
    database.close()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated database of each kind."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite")
    database: Database = request.getfixturevalue("empty_postgresql")
    database.migrate()
    return database


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"PostgreSQL is needed when CI is set, but {reason}")
    pytest.skip(reason)
