from __future__ import annotations

from modelyard.retrieval.citing import merge_sources
from modelyard.types import Passage


def passage(document: str, start: int, end: int) -> Passage:
    return Passage(document, document.title(), "x" * (end - start), start, end, 1.0)


def test_cited_span_marks_the_passage_that_holds_it() -> None:
    sources = merge_sources([passage("a", 0, 10), passage("a", 10, 20), passage("b", 0, 10)], [passage("a", 12, 15)])

    assert [source.cited for source in sources] == [False, True, False]


def test_cited_span_from_elsewhere_stands_behind_the_retrieved_passages() -> None:
    sources = merge_sources([passage("a", 0, 10)], [passage("a", 10, 15), passage("c", 3, 4)])

    assert [(source.document, source.start, source.cited) for source in sources] == [
        ("a", 0, False),
        ("a", 10, True),
        ("c", 3, True),
    ]


def test_nothing_retrieved_and_nothing_cited_gives_no_sources() -> None:
    assert merge_sources([], []) == ()
