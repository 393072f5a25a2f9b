from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.tracking import Tracker, start
from modelyard.settings import Settings


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: making them takes seconds, copying them none."""
    home = tmp_path_factory.mktemp("store")
    start(Settings(home=home), "tests")
    return home / "mlflow.db"


@pytest.fixture
def tracker(fresh_store: Path, settings: Settings) -> Iterator[Tracker]:
    settings.home.mkdir(parents=True)
    shutil.copy(fresh_store, settings.home / "mlflow.db")
    yield start(settings, "of-this-test")
