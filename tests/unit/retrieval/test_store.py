from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelyard.retrieval import Document, Index
from modelyard.retrieval.store import PassageStore
from modelyard.settings import Settings
from tests.unit.retrieval.knowledge import knowledge


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(knowledge())


@pytest.fixture
def store(settings: Settings) -> Iterator[PassageStore]:
    with PassageStore(settings) as opened:
        yield opened


def test_passages_are_stored_once(store: PassageStore, index: Index) -> None:
    assert not store.holds(index)
    assert store.write(index) == store.write(index) == len(index)
    assert store.holds(index)
    assert store.versions() == (index.version,)


def test_passages_outlive_the_process_that_wrote_them(settings: Settings, index: Index) -> None:
    with PassageStore(settings) as first:
        first.write(index)
    with PassageStore(settings) as second:
        assert second.holds(index)


def test_versions_stand_beside_each_other(store: PassageStore, index: Index) -> None:
    other = Index.build([Document("a", "Another knowledge base.", "A")])
    store.write(index)
    store.write(other)
    assert set(store.versions()) == {index.version, other.version}
    store.delete(other.version)
    store.delete(other.version)
    assert store.versions() == (index.version,)


def test_half_written_version_is_written_anew(
    store: PassageStore, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.retrieval.store.BATCH", 2)
    calls: list[int] = []
    from modelyard.retrieval import store as module

    add = module._add

    def dies_in_the_second_batch(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_add", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        store.write(index)
    assert not store.holds(index)
    assert store.write(index) == len(index)
    assert store.holds(index)
