from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.embedding import tokens
from modelyard.tasks import FEATURES, structure
from modelyard.tasks.cues import _ALIKE
from modelyard.tasks.matching import matches
from tests.unit.tasks import reference
from tests.unit.tasks.odd_texts import ODD
from tests.unit.tasks.prompts import TEXTS

PIECES = [piece for text in ODD for piece in re.split(r"( |\n)", text) if len(piece) < 100]
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=80))


@pytest.mark.parametrize("text", [*ODD, *TEXTS[::9]])
def test_features_are_what_plain_patterns_count(text: str) -> None:
    assert dict(zip(FEATURES, structure(text).tolist(), strict=True)) == dict(
        zip(FEATURES, reference.structure(text), strict=True)
    )


@settings(max_examples=300, deadline=None)
@given(texts)
def test_any_text_has_the_features_that_plain_patterns_count(text: str) -> None:
    np.testing.assert_array_equal(structure(text), reference.structure(text))


@settings(max_examples=300, deadline=None)
@given(texts)
def test_any_text_has_the_tokens_and_terms_that_a_step_by_step_search_finds(text: str) -> None:
    assert tokens(text) == reference.tokens(text)
    assert matches(text) == reference.matches(text)


def test_letters_that_ignoring_case_takes_for_ascii_ones_are_known() -> None:
    pattern = re.compile("[a-z]", re.IGNORECASE)
    alike = [char for char in map(chr, range(0x80, sys.maxunicode + 1)) if pattern.match(char)]

    assert {char for char in alike if char.translate(_ALIKE).lower() not in "abcdefghijklmnopqrstuvwxyz"} == set()
    assert set(map(chr, _ALIKE)) <= set(alike)
