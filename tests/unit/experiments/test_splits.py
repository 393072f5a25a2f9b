from __future__ import annotations

from pathlib import Path

import pytest

from experiments.splits import part_of, rows_in, rows_named
from modelyard.errors import InvalidInput

IDS = [f"prompt-{i}" for i in range(2000)]


def test_parts_are_disjoint_whole_and_about_as_large_as_said() -> None:
    train, test = set(rows_in(IDS, "train")), set(rows_in(IDS, "test"))
    assert not train & test
    assert train | test == set(rows_in(IDS, "all")) == set(range(2000))
    assert 0.36 < len(test) / 2000 < 0.44


def test_part_of_an_id_never_changes() -> None:
    assert [part_of(name) for name in IDS[:8]] == [
        "train" if i not in rows_in(IDS, "test") else "test" for i in range(8)
    ]
    assert part_of("a") == part_of("a")


def test_unknown_part_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one of all, train, test, but got 'dev'"):
        rows_in(IDS, "dev")


def test_rows_by_name_keep_the_files_order(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("prompt-7\n\nprompt-2\nprompt-7\n")
    assert rows_named(IDS, path).tolist() == [7, 2]


def test_rows_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("prompt-7\nprompt-x\n")
    with pytest.raises(InvalidInput, match=r"ids\.txt names the prompt 'prompt-x'"):
        rows_named(IDS, path)
    with pytest.raises(InvalidInput, match="No prompt ids can be read"):
        rows_named(IDS, tmp_path / "none.txt")
