"""Which patterns a fact may have."""

from __future__ import annotations

import time

import pytest

from eval_sets.patterns import BadPattern, compiled


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"debounc(e|ing)", "Debouncing helps."),
        (r"(miss\w*|forg\w+)( to| an| the)? .?await", "you forgot to await it"),
        (r"\b1[, ]?024\b", "1,024"),
        (r"(?:a|b){0,3}c", "abc"),
    ],
)
def test_patterns_match_without_regard_to_case(pattern: str, text: str) -> None:
    assert compiled(pattern).search(text.upper())


@pytest.mark.parametrize("pattern", ["a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b"])
def test_look_around_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="look-around"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?P<x>a)(?P=x)", "(a)?(?(1)b|c)", "(?>a+)b", "a++b"])
def test_what_re2_does_not_know_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="which RE2 does not know"):
        compiled(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|aa)*b", r"(\w+ ){9}\w+\w+x", ".*.*.*x", "(a{0,30}){0,30}b", "((a?){30}){30}b"]
)
def test_patterns_that_could_explode_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="could match in more than"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["", "a*", "|a"])
def test_pattern_that_every_answer_matches_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="matches the empty text"):
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "rule"), [("a{1001}", "RE2 allows 1000"), ("x" * 1001, "at most 1000"), ("[[a]", "not a regular")]
)
def test_other_broken_patterns_are_refused(pattern: str, rule: str) -> None:
    with pytest.raises(BadPattern, match=rule):
        compiled(pattern)


def test_the_dearest_allowed_pattern_ends_soon_on_a_text_made_to_hurt_it() -> None:
    start = time.perf_counter()
    assert compiled(r"a+a+b").search("a" * 600) is None
    assert time.perf_counter() - start < 10
