from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings
from tests.unit.cli.conftest import Result, Run


def lines(result: Result) -> dict[str, str]:
    """The worst state of each check."""
    found: dict[str, str] = {}
    for line in result.out.splitlines():
        state, name = line.split()[:2]
        found[name] = "broken" if "broken" in {state, found.get(name)} else state
    return found


def test_fresh_home_is_sound(run: Run, settings: Settings) -> None:
    result = run("doctor")
    assert result.code == 0
    found = lines(result)
    assert (found["settings"], found["catalogue"]) == ("ok", "ok")
    assert {found[name] for name in ("home", "database", "classifier", "router", "index")} == {"none"}
    assert not settings.home.exists()


def test_migrated_database_is_sound(run: Run) -> None:
    run("db", "upgrade")
    assert lines(run("doctor"))["database"] == "ok"


def test_database_that_is_none_is_broken(run: Run, settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "modelyard.db").write_bytes(b"nonsense" * 100)
    result = run("doctor")
    assert (result.code, lines(result)["database"]) == (1, "broken")


def test_database_of_another_revision_is_broken_and_says_what_to_do(run: Run, settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "modelyard.db").touch()
    result = run("doctor")
    assert result.code == 1
    assert "run `modelyard db upgrade`" in result.out


def test_home_that_is_a_file_is_broken(run: Run, settings: Settings) -> None:
    settings.home.touch()
    result = run("doctor")
    assert (result.code, lines(result)["home"]) == (1, "broken")


def test_catalogue_that_cannot_be_read_is_broken(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[models.x]\nkind = 'openai'\n")
    result = run("doctor", MODELYARD_CATALOG=str(file))
    assert (result.code, lines(result)["catalogue"]) == (1, "broken")
    assert str(file) in result.out


@pytest.mark.parametrize(("key", "state"), [("", "broken"), ("sk-secret", "ok")])
def test_model_whose_key_is_not_set_is_broken(run: Run, tmp_path: Path, key: str, state: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[models.x]\nkind = 'openai'\nbase_url = 'http://x/v1'\napi_key_env = 'X_KEY'\n")
    result = run("doctor", MODELYARD_CATALOG=str(file), X_KEY=key)
    assert lines(result)["catalogue"] == state
    assert "sk-secret" not in result.out


@pytest.mark.parametrize("component", ["classifier", "router"])
def test_damaged_champion_is_broken(run: Run, settings: Settings, component: str) -> None:
    folder = settings.champions / component
    folder.mkdir(parents=True)
    (folder / "current.json").write_text("{}")
    result = run("doctor")
    assert (result.code, lines(result)[component]) == (1, "broken")


def test_published_index_is_sound_and_a_damaged_one_broken(run: Run, settings: Settings) -> None:
    texts = {"a": "# Flexbox\n\nUse flexbox to centre a box.", "b": "# Grid\n\nUse grid for rows and columns."}
    folder = publish(Index.build([parse_document(name, text) for name, text in texts.items()]), settings)
    assert lines(run("doctor"))["index"] == "ok"
    (folder / "manifest.json").write_text("{}")
    result = run("doctor")
    assert (result.code, lines(result)["index"]) == (1, "broken")


def test_password_is_not_shown(run: Run) -> None:
    result = run("doctor", MODELYARD_DATABASE_URL="mysql+nodriver://ada:secret@localhost/yard")
    assert (result.code, lines(result)["database"]) == (1, "broken")
    assert "secret" not in result.out


def test_nothing_is_made_by_looking(run: Run, tmp_path: Path) -> None:
    result = run("doctor", MODELYARD_DATABASE_URL=f"sqlite:///{tmp_path / 'elsewhere' / 'yard.db'}")
    assert (result.code, lines(result)["database"]) == (0, "none")
    assert not (tmp_path / "elsewhere").exists()
