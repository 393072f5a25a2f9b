from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelyard.errors import CorruptModel, InvalidInput
from modelyard.retrieval import Document, Index, current_index, publish
from modelyard.settings import Settings
from tests.unit.retrieval.knowledge import knowledge


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(knowledge())


def test_search_finds_the_passage_and_its_exact_place(index: Index) -> None:
    best = index.search("why does my effect run twice in dev?", 3)[0]
    source = next(document.source for document in knowledge() if document.id == best.document)
    assert (best.document, best.title) == ("effects", "Effects in React")
    assert best.text == source[best.start : best.end]
    assert "Strict Mode" in best.text


def test_scores_lie_in_0_to_1_best_first(index: Index) -> None:
    scores = [passage.score for passage in index.search("center a div with css grid", 10)]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_a_question_beside_the_knowledge_base_scores_lower(index: Index) -> None:
    on, beside = (
        index.search("Retry-After header of status 429", 1),
        index.search("status of penguins in Antarctica 1911", 1),
    )
    assert on[0].score > 1.5 * beside[0].score


@pytest.mark.parametrize("query", ["", "   ", "the of and", "{}();", "日本語だけの質問", "\x00"])
def test_a_query_without_known_words_finds_nothing(index: Index, query: str) -> None:
    assert index.search(query, 5) == ()
    assert index.best_sentences(query, 5) == ()


def test_identifiers_match_in_any_language_and_spelling(index: Index) -> None:
    assert index.search("warum läuft mein useEffect zweimal", 1)[0].document == "effects"
    assert index.search("retry after hedaer of the API?", 1)[0].document == "limits"


def test_best_sentence_holds_the_words(index: Index) -> None:
    (best,) = index.best_sentences("how many requests a minute", 1)
    assert best.passage.text == "The API allows 120 requests a minute."
    assert 0 < best.share <= 1


def test_k_bounds_the_result(index: Index) -> None:
    assert len(index.search("component effect grid requests", 2)) == 2
    assert index.search("component", 0) == ()


def test_saved_and_loaded_index_is_the_same(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    assert loaded.version == index.version
    assert loaded.search("effect twice", 5) == index.search("effect twice", 5)
    assert loaded.best_sentences("effect twice", 5) == index.best_sentences("effect twice", 5)


def test_same_documents_give_the_same_index(index: Index) -> None:
    again = Index.build(knowledge())
    assert again.version == index.version
    assert np.allclose(again.vectors, index.vectors, atol=1e-5)


def test_version_follows_the_content(index: Index) -> None:
    changed = (*knowledge()[:2], Document("limits", "Other text.", "Limits"))
    assert Index.build(changed).version != index.version


def test_one_sentence_is_a_knowledge_base() -> None:
    index = Index.build([Document("a", "Only this.", "A")])
    assert [passage.document for passage in index.search("only this", 3)] == ["a"]


def test_duplicate_ids_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'a' stands for two"):
        Index.build([Document("a", "x", "A"), Document("a", "y", "A")])


def test_published_index_is_current(index: Index, settings: Settings) -> None:
    assert current_index(settings) is None
    folder = publish(index, settings)
    publish(index, settings)
    assert folder == settings.indexes / index.version
    assert [entry.name for entry in settings.indexes.iterdir() if entry.name.startswith(".")] == []
    loaded = current_index(settings)
    assert loaded is not None and loaded.version == index.version
    assert current_index(Settings(home=settings.home / "other", index=folder)) is not None


def test_publishing_mends_a_damaged_version(index: Index, settings: Settings) -> None:
    folder = publish(index, settings)
    (folder / "arrays.npz").write_bytes(b"broken")
    with pytest.raises(CorruptModel, match=r"arrays\.npz does not match"):
        current_index(settings)
    publish(index, settings)
    assert current_index(settings) is not None


@pytest.mark.parametrize("content", ["", "../../etc", "0123456789abcdef"])
def test_current_that_names_no_index_is_a_clear_error(content: str, settings: Settings) -> None:
    settings.indexes.mkdir(parents=True)
    (settings.indexes / "current").write_text(content)
    with pytest.raises(CorruptModel, match=r"must hold the version|no readable manifest"):
        current_index(settings)


def test_searching_imports_no_heavy_library(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    program = (
        "import sys; from pathlib import Path; from modelyard.retrieval import Index\n"
        f"assert Index.load(Path({str(tmp_path / 'index')!r})).search('effect twice', 3)\n"
        "heavy = {'bm25s', 'scipy', 'sklearn', 'chromadb', 'mlflow'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])
