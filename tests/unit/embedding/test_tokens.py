from __future__ import annotations

from itertools import pairwise

import pytest

from modelyard.embedding import tokens
from modelyard.embedding.remembered import LONGEST, Remembered
from modelyard.embedding.tokens import MAX_CHARS, clip, read


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


@pytest.mark.parametrize(
    "text", ["", "one", "useState? it's HTMLElement.\n\tx2\u2028y", "long " * MAX_CHARS, "☂" * (MAX_CHARS + 1)]
)
def test_reading_gives_the_tokens_of_the_clipped_text_and_their_pairs(text: str) -> None:
    reading = read(text)

    assert list(reading.words) == clip(text).split()
    assert list(reading.tokens) == tokens(clip(text))
    assert list(reading.bigrams) == [f"{a} {b}" for a, b in pairwise(reading.tokens)]


def test_words_are_worked_out_once_and_all_forgotten_when_there_are_too_many() -> None:
    asked = list[str]()

    def length(word: str) -> int:
        asked.append(word)
        return len(word)

    remembered, long = Remembered(length, limit=2), "x" * (LONGEST + 1)
    for word in ("a", "bb", "a", "ccc", "a", long, long):
        assert remembered[word] == len(word)

    assert asked == ["a", "bb", "ccc", "a", long, long]
    assert dict(remembered) == {"ccc": 3, "a": 1}
