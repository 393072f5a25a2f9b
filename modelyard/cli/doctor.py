"""`modelyard doctor`: looks at everything that serving stands on and says what is broken."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelyard.cli.text import table
from modelyard.errors import ModelyardError
from modelyard.settings import Settings, current

State = Literal["ok", "none", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and found. `none` is something that may be missing: the defaults serve instead."""

    name: str
    state: State
    detail: str


def configure(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("doctor", help="check settings, database, champions, index and catalogue")
    parser.set_defaults(run=_doctor)


def _doctor(_: argparse.Namespace) -> int:
    checks = examine(current())
    print("\n".join(table([(check.state, check.name, check.detail) for check in checks])))
    return 1 if any(check.state == "broken" for check in checks) else 0


def examine(settings: Settings) -> tuple[Check, ...]:
    """Run every check; none of them changes anything."""
    return tuple(check for name, look in LOOKS.items() for check in _looked(name, look, settings))


Look = Callable[[Settings], Iterator[Check]]


def _looked(name: str, look: Look, settings: Settings) -> Iterator[Check]:
    try:
        yield from look(settings)
    except ModelyardError as error:
        yield Check(name, "broken", str(error))


def _settings(settings: Settings) -> Iterator[Check]:
    given = ", ".join(f"{name} {getattr(settings, name)}" for name in sorted(settings.model_fields_set - HIDDEN))
    yield Check("settings", "ok", given or "all at their defaults")


def _home(settings: Settings) -> Iterator[Check]:
    home = settings.home.absolute()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Check("home", "broken", f"{nearest} is not a folder that can be written to (MODELYARD_HOME is {home})")
    elif nearest != home:
        yield Check("home", "none", f"{home} is not there yet; it is made when it is needed")
    else:
        yield Check("home", "ok", str(home))


def _catalogue(settings: Settings) -> Iterator[Check]:
    from modelyard.catalog import load_catalog

    catalog = load_catalog(settings.catalog)
    served = ", ".join(catalog.served)
    yield Check("catalogue", "ok", f"composites {', '.join(catalog.composites)}; base models {served}")
    for notice in catalog.notices:
        yield Check("catalogue", "ok", notice)
    for deployment in catalog.deployments:
        key, used = deployment.api_key_env, deployment.enabled and catalog.model(deployment.model).enabled
        if used and key and not os.environ.get(key):
            needs = f"the deployment {deployment.name!r} needs the environment variable {key}, which is not set"
            yield Check("catalogue", "broken", needs)


def _database(settings: Settings) -> Iterator[Check]:
    from modelyard.storage.database import Database, sqlite_file

    if (file := sqlite_file(settings.database)) and not file.exists():
        yield Check("database", "none", f"{file} is not there yet; it is made when it is needed")
        return
    database = Database(settings.database)
    try:
        revision, head = database.revision(), database.head
    finally:
        database.close()
    if revision == head:
        yield Check("database", "ok", f"{database.url} at revision {revision}")
    else:
        advice = f"at revision {revision or 'none'}, not {head}: run `modelyard db upgrade`"
        yield Check("database", "broken", f"{database.url} is {advice}")


def _champions(settings: Settings) -> Iterator[Check]:
    from modelyard.registry.champions import COMPONENTS, check

    for component in COMPONENTS:
        found = check(component, settings)
        yield Check(component, found.state, found.detail)


def _index(settings: Settings) -> Iterator[Check]:
    from modelyard.retrieval import current_index

    index = current_index(settings)
    if index is None:
        yield Check("index", "none", "no index was built yet; answers have no sources")
    else:
        yield Check("index", "ok", f"version {index.version}, {len(index.documents)} documents")


HIDDEN: Final = frozenset({"database_url", "mlflow_uri"})  # may hold a password; the database check shows it without
LOOKS: Final[dict[str, Look]] = {
    "settings": _settings,
    "home": _home,
    "catalogue": _catalogue,
    "database": _database,
    "champions": _champions,
    "index": _index,
}
