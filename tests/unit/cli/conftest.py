from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from modelyard.cli import main
from modelyard.settings import Settings, current


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command as the console script does, with the test's own home."""
    monkeypatch.setenv("MODELYARD_HOME", str(settings.home))

    def run(*argv: str, **environment: str) -> Result:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        current.cache_clear()
        code = main(argv)
        return Result(code, *capsys.readouterr())

    yield run
    current.cache_clear()
