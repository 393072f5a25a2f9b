from __future__ import annotations

from typing import Any

import pytest

from modelyard.control.caches import Cache, Caches, Embedding
from modelyard.control.embedding_cache import RememberedInputs
from modelyard.errors import UpstreamError
from modelyard.upstream.sharing import inputs_of


@pytest.fixture
def cache() -> Cache[Embedding]:
    return Caches.sized(1).embeddings


def look_up(cache: Cache[Embedding], given: Any, *, owner: str | None = "k", **parameters: Any) -> RememberedInputs:
    return RememberedInputs.look_up(cache, "embed", {"model": "embed", "input": given, **parameters}, owner=owner)


def embedded(body: dict[str, Any] | None) -> dict[str, Any] | None:
    """Answer as an endpoint does: a text's embedding is its length, and so are its tokens."""
    if body is None:
        return None
    inputs = inputs_of(body)
    tokens = sum(map(len, inputs))
    data = [{"object": "embedding", "index": n, "embedding": [len(one)]} for n, one in enumerate(inputs)]
    return {
        "object": "list",
        "model": "up",
        "data": data[::-1],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def ask(cache: Cache[Embedding], given: Any, **parameters: Any) -> tuple[dict[str, Any] | None, list[list[int]]]:
    """Return what was asked of the endpoint, and the vectors."""
    inputs = look_up(cache, given, **parameters)
    missing = inputs.missing
    answer = inputs.answer(cache, embedded(missing))
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return missing, [entry["embedding"] for entry in answer["data"]]


def test_what_is_known_is_not_asked_for_again(cache: Cache[Embedding]):
    assert ask(cache, ["a", "bb"])[1] == [[1], [2]]
    missing, vectors = ask(cache, ["ccc", "bb", "dddd", "a"])
    assert missing is not None
    assert missing["input"] == ["ccc", "dddd"]
    assert vectors == [[3], [2], [4], [1]]
    assert ask(cache, "bb") == (None, [[2]])


def test_an_input_that_comes_twice_is_asked_for_once(cache: Cache[Embedding]):
    missing, vectors = ask(cache, ["a", "bb", "a"])
    assert missing is not None
    assert missing["input"] == ["a", "bb"]
    assert vectors == [[1], [2], [1]]


def test_a_request_of_which_nothing_is_known_goes_as_it_came(cache: Cache[Embedding]):
    assert ask(cache, "a", user="u")[0] == {"model": "embed", "input": "a", "user": "u"}
    assert ask(cache, [1, 2, 3])[0] == {"model": "embed", "input": [1, 2, 3]}


def test_other_parameters_and_other_owners_find_nothing(cache: Cache[Embedding]):
    ask(cache, "a")
    assert ask(cache, "a", dimensions=3)[0] is not None
    assert look_up(cache, "a", owner="l").missing is not None
    assert look_up(cache, "a", owner=None).missing is not None


def test_the_usage_is_that_of_the_whole_request(cache: Cache[Embedding]):
    ask(cache, ["aaaa", "bb"])
    inputs = look_up(cache, ["aaaa", "cc"])
    answer = inputs.answer(cache, embedded(inputs.missing))
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert answer["model"] == "up"


@pytest.mark.parametrize("data", [[], [{}], [{"embedding": []}], ["x"], [{"embedding": [1]}, {"embedding": [1]}], None])
def test_a_response_that_does_not_fit_is_no_answer_and_not_remembered(cache: Cache[Embedding], data: Any):
    inputs = look_up(cache, "a")
    with pytest.raises(UpstreamError, match="for 1 inputs") as caught:
        inputs.answer(cache, {"data": data})
    assert caught.value.kind == "garbage"
    assert look_up(cache, "a").missing is not None
