from __future__ import annotations

from tests.unit.cli.conftest import Run


def test_upgrade_makes_the_tables_once(run: Run) -> None:
    assert "empty (the newest is" in run("db", "current").out
    assert run("db", "upgrade").out.endswith("(was empty)\n")
    assert run("db", "upgrade").out.endswith("(nothing to do)\n")
    assert run("db", "current").out.endswith("(the newest)\n")


def test_unusable_url_is_one_line_and_exit_2(run: Run) -> None:
    result = run("db", "upgrade", MODELYARD_DATABASE_URL="sqlite://")
    assert (result.code, result.out) == (2, "")
    assert result.err == "modelyard: MODELYARD_DATABASE_URL must name a file for SQLite, but got 'sqlite://'.\n"
