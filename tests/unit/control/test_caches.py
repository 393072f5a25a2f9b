from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from modelyard.control.cache_keys import answer_key, decision_key, embedding_key, passages_key
from modelyard.control.caches import Cache, Caches, Decision, Embedding, answer_size
from modelyard.errors import InvalidSetting
from modelyard.types import Message, Turn, Versions
from tests.unit.control.clock import Clock
from tests.unit.storage.answers import answer, passage

VERSIONS = Versions("auto", "classifier-1", "router-1", "index-1")
MESSAGE = Message((Turn("user", "How do I centre a div?"),), parameters={"temperature": 0.0, "top_p": 1})


def texts(*, entries: int = 3, size: int = 100_000, clock: Clock | None = None) -> Cache[str]:
    return Cache("texts", entries=entries, size=size, ttl_s=60.0, size_of=len, clock=clock or Clock())


def test_a_value_is_found_until_it_is_too_old():
    clock = Clock()
    cache = texts(clock=clock)
    cache.put(b"a", "one")
    cache.put(b"b", "two", ttl_s=5)

    clock.now += 5
    assert (cache.get(b"a"), cache.get(b"b")) == ("one", None)
    clock.now += 55
    assert cache.get(b"a") is None
    assert (cache.stats().entries, cache.stats().bytes, cache.stats().expired) == (0, 0, 2)


def test_what_was_not_used_for_longest_goes_first():
    cache = texts(entries=2)
    cache.put(b"a", "one")
    cache.put(b"b", "two")
    cache.get(b"a")
    cache.put(b"c", "three")

    assert [cache.get(key) for key in (b"a", b"b", b"c")] == ["one", None, "three"]
    assert cache.stats().evicted == 1


def test_bytes_are_bounded_and_too_large_values_are_refused():
    cache = texts(entries=100, size=5_000)
    for number in range(20):
        cache.put(bytes([number]), "x" * 600)
        assert cache.stats().bytes <= 5_000
    assert cache.stats().entries == 5

    cache.put(b"large", "x" * 6_000)
    assert cache.get(b"large") is None
    assert cache.stats().refused == 1
    assert cache.stats().entries == 5


def test_a_refused_value_does_not_leave_the_older_one_behind():
    cache = texts(size=5_000)
    cache.put(b"a", "old")
    cache.put(b"a", "x" * 6_000)
    assert cache.get(b"a") is None


def test_a_new_value_takes_the_place_of_the_old_one():
    cache = texts()
    cache.put(b"a", "x" * 1000)
    cache.put(b"a", "y")
    assert cache.get(b"a") == "y"
    assert cache.stats().bytes < 1000


def test_one_entry_can_be_forgotten():
    cache = texts()
    cache.put(b"a", "one")
    cache.put(b"b", "two")
    cache.drop(b"a")
    cache.drop(b"never there")
    assert (cache.get(b"a"), cache.get(b"b")) == (None, "two")
    assert cache.stats().entries == 1


def test_hit_rate_counts_look_ups_and_is_unknown_before_the_first():
    cache = texts()
    assert cache.stats().hit_rate is None
    cache.put(b"a", "one")
    for key in (b"a", b"a", b"a", b"b"):
        cache.get(key)
    assert cache.stats().hit_rate == 0.75
    assert cache.stats().to_json()["hit_rate"] == 0.75


def test_a_cache_of_no_entries_is_off():
    cache = texts(entries=0)
    cache.put(b"a", "one")
    assert cache.get(b"a") is None
    assert cache.stats().entries == 0


@pytest.mark.parametrize("bounds", [{"entries": -1}, {"size": -1}, {"ttl_s": 0.0}])
def test_bounds_are_checked(bounds: dict[str, float]):
    with pytest.raises(InvalidSetting, match="'texts' needs entries ≥ 0"):
        Cache("texts", size_of=len, **({"entries": 1, "size": 1, "ttl_s": 1.0} | bounds))  # type: ignore[arg-type]


def test_threads_keep_the_bytes_right():
    cache = texts(entries=8, size=10_000)

    def work(seed: int) -> None:
        for number in range(2_000):
            key = bytes([(number * seed) % 32])
            if cache.get(key) is None:
                cache.put(key, "x" * (number % 500))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert stats.hits + stats.misses == 8_000
    assert stats.entries <= 8
    assert stats.bytes == sum(entry.size for entry in cache._held.values())


def test_cleared_caches_are_empty():
    caches = Caches.sized(10)
    caches.passages.put(b"a", (passage(cited=True),))
    caches.embeddings.put(b"a", Embedding([0.5] * 3, 2))
    caches.clear()
    assert [(stats.entries, stats.bytes) for stats in caches.stats()] == [(0, 0)] * 4


def test_sized_caches_stay_within_their_megabytes():
    caches = Caches.sized(1)
    for number in range(2_000):
        key = number.to_bytes(4, "big")
        caches.answers.put(key, answer())
        caches.keep_decision(key, Decision(answer().task, answer().route))
    assert sum(stats.bytes for stats in caches.stats()) <= 1_000_000


def test_an_exploration_is_not_kept():
    caches = Caches.sized(1)
    drawn = replace(answer().route, propensity=0.2)
    caches.keep_decision(b"drawn", Decision(answer().task, drawn))
    caches.keep_decision(b"sure", Decision(answer().task, answer().route))
    assert caches.decisions.get(b"drawn") is None
    assert caches.decisions.get(b"sure") is not None


def test_longer_answers_are_larger():
    short = answer()
    assert answer_size(replace(short, text="x" * 1000)) > answer_size(short)
    assert answer_size(replace(short, passages=(passage(cited=True),))) > answer_size(short)


def key(
    message: Message = MESSAGE, versions: Versions = VERSIONS, *, revision: int = 1, owner: str | None = "k"
) -> bytes:
    return answer_key(message, versions, revision=revision, owner=owner)


def test_the_same_request_has_the_same_key_whatever_its_id_and_the_order_of_its_parameters():
    assert key() == key(replace(MESSAGE, id="other", parameters={"top_p": 1, "temperature": 0.0}))


@pytest.mark.parametrize(
    "changed",
    [
        replace(MESSAGE, turns=(Turn("system", "How do I centre a div?"),)),
        replace(MESSAGE, turns=(*MESSAGE.turns, Turn("user", "And a span?"))),
        replace(MESSAGE, turns=(Turn("user", MESSAGE.prompt, {"role": "user", "content": [{"type": "image_url"}]}),)),
        replace(MESSAGE, parameters={"temperature": 0.1, "top_p": 1}),
        replace(MESSAGE, parameters={"temperature": 0.0, "top_p": 1, "seed": None}),
        replace(MESSAGE, needs=frozenset({"json"})),
        replace(MESSAGE, conversation="c-1"),
    ],
)
def test_every_part_of_the_message_changes_an_answers_key(changed: Message):
    assert key(changed) != key()


@pytest.mark.parametrize("field", ["composite", "classifier", "router", "index", "prompt"])
def test_every_version_changes_the_keys(field: str):
    other = replace(VERSIONS, **{field: "other"})
    assert key(versions=other) != key()
    assert decided(versions=other) != decided()


def test_revision_and_owner_change_an_answers_key():
    assert len({key(), key(revision=2), key(owner="l"), key(owner=None)}) == 4


def test_turns_cannot_be_written_so_that_two_conversations_meet():
    one = Message((Turn("user", "a"), Turn("user", "b")))
    other = Message((Turn("user", 'a"],["user","b'),))
    assert key(one) != key(other)


@pytest.mark.parametrize("value", ["\ud800", 2**70, {"deep": ["\udfff", 2**65]}])
def test_text_and_numbers_that_orjson_refuses_have_keys_too(value: object):
    odd = replace(MESSAGE, parameters={"metadata": value})
    assert key(odd) == key(replace(odd, id="other")) != key()


def decided(
    subject: str = "Centre a div",
    tokens: int = 3,
    needs: frozenset[str] = frozenset(),
    versions: Versions = VERSIONS,
    generation: int = 1,
) -> bytes:
    return decision_key(subject, tokens, needs, versions, generation=generation)


def test_decisions_depend_on_what_is_read_its_length_needs_and_what_serves():
    others = {
        decided(subject="Centre a span"),
        decided(tokens=4),
        decided(needs=frozenset({"tools"})),
        decided(generation=2),
    }
    assert len(others | {decided()}) == 5
    assert decided(needs=frozenset({"tools", "json"})) == decided(needs=frozenset({"json", "tools"}))


def test_embeddings_depend_on_model_parameters_input_and_owner():
    keys = {
        embedding_key("m", {"dimensions": 3}, "text", owner="k"),
        embedding_key("n", {"dimensions": 3}, "text", owner="k"),
        embedding_key("m", {"dimensions": 4}, "text", owner="k"),
        embedding_key("m", {"dimensions": 3}, "texts", owner="k"),
        embedding_key("m", {"dimensions": 3}, [1, 2], owner="k"),
        embedding_key("m", {"dimensions": 3}, "text", owner=None),
    }
    assert len(keys) == 6


def test_passages_depend_on_index_query_and_number():
    assert (
        len(
            {passages_key("1", "q", 4), passages_key("2", "q", 4), passages_key("1", "r", 4), passages_key("1", "q", 5)}
        )
        == 4
    )
