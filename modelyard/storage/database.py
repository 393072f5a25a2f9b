"""The engine, its SQLite manners, and the migrations that come with the package."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from modelyard.errors import InvalidSetting, MissingExtra, ModelyardError
from modelyard.storage.tables.base import to_json

MIGRATIONS: Final = Path(__file__).with_name("migrations")
BUSY_TIMEOUT_MS: Final = 10_000
MIGRATION_LOCK: Final = 0x6D6F6479  # PostgreSQL advisory lock: "mody"
_BEGIN: Final = "modelyard_begin"  # execution option: how a SQLite transaction begins


class StorageError(ModelyardError):
    """The database could not do what was asked."""


class Database:
    """The application database.

    Args:
        url: SQLAlchemy URL; for SQLite the file's folder is created.

    Raises:
        InvalidSetting: The URL is not one, or names a database in memory, which threads could not share.
        MissingExtra: The URL's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        parsed, file = _parse(url), sqlite_file(url)
        self.url = parsed.render_as_string(hide_password=True)
        if file is not None:
            _make_folder(file.parent)
        try:
            self.engine = create_engine(
                parsed, pool_pre_ping=file is None, json_serializer=to_json, json_deserializer=orjson.loads
            )
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise MissingExtra(f"The database {self.url} needs a driver that is not installed: {error}.") from None
        if self.engine.dialect.name == "sqlite":
            _teach_sqlite(self.engine)
        # A writer takes SQLite's lock when it begins: a reader that turns writer half-way is refused without waiting.
        self._writer = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})

    @contextmanager
    def read(self) -> Generator[Session]:
        """Open a session for reading.

        Raises:
            StorageError: The database failed.
        """
        with self._translated(), Session(self.engine) as session:
            yield session

    @contextmanager
    def connected(self) -> Generator[Connection]:
        """Open a connection, on which transactions are begun and ended one by one.

        Raises:
            StorageError: The database failed.
        """
        with self._translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Session]:
        """Open a session whose changes are committed together when the block ends, or not at all.

        Raises:
            StorageError: The database failed.
        """
        with self._translated(), Session(self._writer) as session, session.begin():
            yield session

    def migrate(self) -> str:
        """Bring the schema to the newest revision, all of it or nothing, and return that revision.

        Raises:
            StorageError: The database failed.
        """
        from alembic import command

        with self._translated():
            if self.revision() == self.head:
                return self.head
            with self._schema_change() as connection:
                command.upgrade(_alembic(connection), "head")
        return self.head

    def downgrade(self, revision: str) -> None:
        """Bring the schema back to an older revision (`base`: no tables), all of it or nothing; what that has no place for is lost.

        Raises:
            StorageError: The database failed.
        """
        from alembic import command

        with self._translated(), self._schema_change() as connection:
            command.downgrade(_alembic(connection), revision)

    @contextmanager
    def _schema_change(self) -> Generator[Connection]:
        """Open a transaction of one process at a time, in which SQLite may make a table anew without losing what refers to it."""
        with self._writer.connect() as connection:
            if connection.dialect.name == "postgresql":
                with connection.begin():
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
                    yield connection
                return
            raw: Any = connection.connection.dbapi_connection
            raw.execute("PRAGMA foreign_keys = OFF")  # has no effect once a transaction has begun
            try:
                with connection.begin():
                    yield connection
                    _check_references(connection)
            finally:
                raw.execute("PRAGMA foreign_keys = ON")

    def revision(self) -> str | None:
        """Return the schema's revision, or None for a database that was never migrated.

        Raises:
            StorageError: The database failed.
        """
        from alembic.runtime.migration import MigrationContext

        with self._translated(), self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    @property
    def head(self) -> str:
        """The newest revision that this version of Modelyard knows."""
        from alembic.script import ScriptDirectory

        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        if head is None:
            raise StorageError(f"No migrations are installed in {MIGRATIONS}.")
        return head

    def tidy(self) -> None:
        """Empty SQLite's log, in which deleted rows linger, as far as nobody reads from it now; nothing elsewhere.

        Raises:
            StorageError: The database failed.
        """
        if self.engine.dialect.name == "sqlite":
            with self.connected() as connection:
                raw: Any = connection.connection.dbapi_connection
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            reason = " ".join(str(cause).split()).rstrip(".")
            raise StorageError(f"The database {self.url} failed: {type(cause).__name__}: {reason}.") from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidSetting("MODELYARD_DATABASE_URL must be a SQLAlchemy URL such as sqlite:///yard.db.") from None
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise InvalidSetting(f"MODELYARD_DATABASE_URL must name a file for SQLite, but got {url!r}.")
    return parsed


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, or None for another database.

    Raises:
        InvalidSetting: The URL is not one, or names a database in memory.
    """
    parsed = _parse(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(f"Cannot make the folder {folder} of the database: {error.strerror}.") from None


def _teach_sqlite(engine: Engine) -> None:
    """Several processes read and write one file: wait for locks, log ahead, check foreign keys, begin when we say so."""

    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own transactions leave DDL outside
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")  # what is deleted does not linger in free pages
        cursor.close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)


def _check_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise StorageError(f"The schema was not changed: a row of {broken[0]} would refer to no row of {broken[2]}.")


def _alembic(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
