from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.control.credentials import bearer, looks_like, matches, new_key, prefix_of, stored_hash
from modelyard.errors import Unauthenticated

KEY = "my-Qw3rT9zX-" + "0aB" * 13 + "7"


def test_a_key_has_a_prefix_and_forty_random_characters():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"my-[0-9A-Za-z]{8}-[0-9A-Za-z]{40}", key) for key in keys)
    assert all(key[3:11] == prefix_of(key) for key in keys)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my-",
        "sk-" + "a" * 48,
        KEY + "\n",
        KEY + "\x00",
        "\r\n" + KEY,
        KEY[:-1],
        KEY + "a",
        KEY[:-1] + "é",
        KEY[:-1] + "٣",  # a digit, but not one of ours
        KEY[:-1] + "\ud800",
        "x" * 1_000_000,
    ],
    ids=range(12),
)
def test_what_is_no_key_has_no_prefix(text: str):
    assert prefix_of(KEY) == "Qw3rT9zX"
    assert prefix_of(text) is None


@given(st.text())
def test_no_text_makes_it_fail(text: str):
    assert prefix_of(text) is None


def test_the_stored_hash_knows_its_key_and_does_not_hold_it():
    key, other = new_key(), new_key()
    stored = stored_hash(key)
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in stored
    assert len(stored) <= 200
    assert key not in stored
    assert key[-40:] not in stored
    assert looks_like(key, stored)
    assert matches(key, stored)
    assert not looks_like(other, stored)
    assert not matches(other, stored)
    assert stored_hash(key) != stored  # salted


@pytest.mark.parametrize("stored", [None, "", "damaged", "-" * 200])
def test_what_is_no_hash_knows_no_key(stored: str | None):
    key = new_key()
    assert not looks_like(key, stored)
    assert not matches(key, stored or "")


def test_the_key_is_read_from_the_header():
    assert bearer("Bearer my-key") == bearer("bearer   my-key ") == "my-key"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic bXk6a2V5", "my-key"])
def test_a_header_without_a_key_is_refused_without_repeating_it(header: str | None):
    with pytest.raises(Unauthenticated) as caught:
        bearer(header)
    assert "my" not in str(caught.value).replace("modelyard", "")
