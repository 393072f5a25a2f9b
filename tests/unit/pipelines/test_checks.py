from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from modelyard import settings as environment
from modelyard.errors import InvalidSetting
from modelyard.settings import Settings
from pipelines import __main__ as front
from pipelines.__main__ import COMMANDS, main, parser_for
from pipelines.checks import LEAST, WRITERS, check_options

ROOT = Path(__file__).parents[3]


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**given)


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_numbers_have_a_least_value(settings: Settings, name: str, least: int) -> None:
    check_options("evaluate-router", options(**{name: least}), settings)
    with pytest.raises(InvalidSetting, match=f"--{name} must be at least {least}, but got {least - 1}"):
        check_options("evaluate-router", options(**{name: least - 1}), settings)


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan"), float("inf")])
def test_margin_is_a_positive_number(settings: Settings, margin: float) -> None:
    check_options("evaluate-router", options(margin=0.02), settings)
    with pytest.raises(InvalidSetting, match="--margin must be a positive number, but got"):
        check_options("evaluate-router", options(margin=margin), settings)


@pytest.mark.parametrize("name", ["json", "out"])
def test_places_to_write_to_are_looked_at_and_nothing_is_made(settings: Settings, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    check_options("evaluate-router", options(**{name: tmp_path / "deep" / "er" / "out"}), settings)
    check_options("evaluate-router", options(**{name: tmp_path / "file"}), settings)
    check_options("evaluate-router", options(**{name: None}), settings)
    with pytest.raises(InvalidSetting, match=rf"--{name} .*file/out cannot be written: .*file is not a folder"):
        check_options("evaluate-router", options(**{name: tmp_path / "file" / "out"}), settings)
    with pytest.raises(InvalidSetting, match="it is a folder"):
        check_options("evaluate-router", options(**{name: tmp_path}), settings)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_home_is_looked_at_where_a_command_writes_to_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(home=tmp_path / "file" / "yard")
    check_options("evaluate-router", options(), settings)
    with pytest.raises(InvalidSetting, match=r"MODELYARD_HOME .*file/yard cannot be written: .*file is not a folder"):
        check_options("promote", options(), settings)
    assert set(COMMANDS) > WRITERS


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_option_is_one_sentence_for_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--no-such-option"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pipelines: ")
    assert captured.err.count("\n") == 1
    assert f"{command} --help" in captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_not_an_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m pipelines {command}")


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_commands_are_listed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == (0 if words else 2)
    listed = capsys.readouterr().out
    assert all(f"  {command} " in listed for command in COMMANDS)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "/x/file"), 2, "/x/file cannot be used: Permission denied."),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept."),
        (InvalidSetting("No."), 2, "No."),
    ],
)
def test_errors_become_a_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def broken(_command: str, _words: list[str]) -> int:
        raise error

    monkeypatch.setattr(front, "run", broken)
    assert main(["history"]) == code
    assert capsys.readouterr().err == f"pipelines: {said}\n"


def test_error_of_the_system_that_names_no_file_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_command: str, _words: list[str]) -> int:
        raise OSError("something of our own")

    monkeypatch.setattr(front, "run", broken)
    with pytest.raises(OSError, match="something of our own"):
        main(["history"])


def test_defaults_lead_to_the_shipped_sets_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command, option in (
        ("build-index", "documents"),
        ("train-classifier", "eval_set"),
        ("collect-outcomes", "eval_set"),
    ):
        words = ["--out", "out.parquet"] if command == "collect-outcomes" else []
        place: Path = getattr(parser_for(command).parse_args(words), option)
        assert place.is_absolute()
        assert place.is_dir()


def test_index_of_the_shipped_documents_is_built_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", "yard")
    environment.current.cache_clear()
    try:
        assert main(["build-index"]) == 0
    finally:
        environment.current.cache_clear()
    documents = len(list((ROOT / "eval_sets" / "web_docs" / "docs").glob("*.md")))
    assert f"{documents} documents" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["yard"]
