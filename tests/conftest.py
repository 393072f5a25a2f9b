"""What every test can lean on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.settings import Settings, switch_telemetry_off

ROOT = Path(__file__).parents[1]
switch_telemetry_off()  # before any test imports a third party that would report home


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the `MODELYARD_*` variables of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("MODELYARD_") and name != "MODELYARD_SHARED_DATA"]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a home of their own."""
    return Settings(home=tmp_path / "yard")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data, beside the repository or where MODELYARD_SHARED_DATA says."""
    folder = Path(os.environ.get("MODELYARD_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"the shared data is not at {folder}: set MODELYARD_SHARED_DATA to where it is")
    return folder


@pytest.fixture(scope="session")
def require_service() -> Callable[[str, object], None]:
    """Call it with a service's name and what was found of it: where that is nothing, skip for a user and fail in CI."""

    def require(name: str, found: object) -> None:
        if found:
            return
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing, and in CI nothing is skipped for want of a service or a browser")
        pytest.skip(f"{name} is missing")

    return require
