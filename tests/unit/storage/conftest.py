from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from modelyard.storage import Database

POSTGRES = os.environ.get("MODELYARD_TEST_POSTGRES", "postgresql+psycopg://postgres@localhost:5432")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'yard.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def empty_postgresql(require_service: Callable[[str, object], None]) -> Iterator[Database]:
    """An empty PostgreSQL database of the test's own, dropped afterwards."""
    require_service("psycopg, the driver of PostgreSQL,", importlib.util.find_spec("psycopg"))
    server = create_engine(f"{POSTGRES}/postgres", isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    require_service(f"PostgreSQL at {server.url.host}:{server.url.port}", _answers(server))
    name = f"modelyard_test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
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


def _answers(server: Engine) -> bool:
    try:
        server.connect().close()
    except OperationalError:
        server.dispose()
        return False
    return True
