from __future__ import annotations

import pytest

from modelyard.embedding import tokens


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" \n\t", []),
        ("Hello, World", ["hello", ",", "world"]),
        ("useState", ["usestate", "use", "state"]),
        ("HTMLElement", ["htmlelement", "html", "element"]),
        ("Title", ["title"]),
        ("snake_case2x", ["snake", "case", "2", "x"]),
        ("width: 100%", ["width", ":", "100", "%"]),
        ("a=>b", ["a", "=", ">", "b"]),
        ("Größe 日本", ["größe", "日本"]),
        ("🙂", ["🙂"]),
    ],
)
def test_prose_and_code_split_into_small_lower_case_tokens(text: str, found: list[str]) -> None:
    assert tokens(text) == found
