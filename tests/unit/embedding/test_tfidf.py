from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from modelyard.embedding import Tfidf
from modelyard.embedding.tfidf import MAX_CHARS, Analyzer, clip

TEXTS = [
    "How do I centre a div with flexbox? A div in a div.",
    "Centre a grid item: use place-items in the grid",
    "my useEffect runs twice, why does useEffect run twice",
    "why does flexbox not centre my div",
    "useState and useEffect: how do I use state",
    "",
]
UNSEEN = ["how do I use a grid, a grid, a grid", "nothing-of-this ☂", "", "why why why"]
ANALYZERS = [Analyzer(1), Analyzer(2), Analyzer(3), Analyzer(2, (2, 5)), Analyzer(1, (3, 3))]


@pytest.mark.parametrize("analyzer", ANALYZERS, ids=str)
@pytest.mark.parametrize("min_df", [1, 2])
def test_vectors_equal_scikit_learns(analyzer: Analyzer, min_df: int) -> None:
    theirs = TfidfVectorizer(analyzer=analyzer.terms, sublinear_tf=True, smooth_idf=True, min_df=min_df).fit(TEXTS)
    ours = Tfidf.fit(TEXTS, analyzer=analyzer, min_df=min_df)

    assert ours.vocabulary == tuple(theirs.get_feature_names_out())
    np.testing.assert_allclose(ours.idf, theirs.idf_, rtol=1e-6)
    texts = TEXTS + UNSEEN
    np.testing.assert_allclose(ours.matrix(texts).toarray(), theirs.transform(texts).toarray(), atol=1e-6)


@pytest.mark.parametrize("analyzer", ANALYZERS, ids=str)
def test_vector_has_unit_length_and_increasing_indices(analyzer: Analyzer) -> None:
    indices, values = Tfidf.fit(TEXTS, analyzer=analyzer).vector(TEXTS[0])

    assert np.linalg.norm(values) == pytest.approx(1.0)
    assert (np.diff(indices) > 0).all()
    assert values.dtype == np.float32


@pytest.mark.parametrize("text", ["", "zzz qqq", "☂"])
def test_text_without_a_known_term_has_an_empty_vector(text: str) -> None:
    indices, values = Tfidf.fit(TEXTS, analyzer=Analyzer(2)).vector(text)

    assert (len(indices), len(values)) == (0, 0)


def test_most_frequent_terms_are_kept_and_ties_go_to_the_first_in_the_alphabet() -> None:
    tfidf = Tfidf.fit(["b a c", "c b a", "c"], analyzer=Analyzer(1), min_df=1, max_terms=2)

    assert tfidf.vocabulary == ("a", "c")


def test_order_of_the_texts_does_not_change_the_vocabulary() -> None:
    one = Tfidf.fit(TEXTS, analyzer=Analyzer(2, (2, 3)), max_terms=20)
    other = Tfidf.fit(TEXTS[::-1], analyzer=Analyzer(2, (2, 3)), max_terms=20)

    assert one.vocabulary == other.vocabulary
    np.testing.assert_array_equal(one.idf, other.idf)


def test_state_survives_json() -> None:
    before = Tfidf.fit(TEXTS, analyzer=Analyzer(2, (2, 4)))
    facts, arrays = before.state()
    after = Tfidf.from_state(json.loads(json.dumps(facts)), arrays)

    assert after.analyzer == before.analyzer
    for text in TEXTS + UNSEEN:
        np.testing.assert_array_equal(after.vector(text).values, before.vector(text).values)
        np.testing.assert_array_equal(after.vector(text).indices, before.vector(text).indices)


def test_long_text_is_read_at_both_ends() -> None:
    text = "start " + "x " * MAX_CHARS + " end"
    clipped = clip(text)

    assert clipped.startswith("start ")
    assert clipped.endswith(" end")
    assert len(clipped) == MAX_CHARS + 1
    assert clip("short") == "short"


def test_matrix_of_no_texts_has_no_rows() -> None:
    tfidf = Tfidf.fit(TEXTS, analyzer=Analyzer(1))

    assert tfidf.matrix([]).shape == (0, len(tfidf))


@pytest.mark.parametrize("chars", [(1, 1), (1, 4), (2, 2), (2, 5), (3, 3), (3, 4), (4, 6)], ids=str)
def test_every_n_gram_of_a_new_word_is_counted_whichever_are_known(chars: tuple[int, int]) -> None:
    analyzer, draw = Analyzer(1, chars), random.Random(sum(chars))
    texts = ["0-123-88231, 112233 9", "7", "flexbox", "กขค 漢字かな", "aaaaaaa aaaaaaaa", ""]
    terms = sorted({term for text in texts for term in analyzer.terms(text)})
    for _ in range(20):
        # Any of them, not only those whose own beginnings are known, too.
        known = sorted(draw.sample(terms, len(terms) // 3))
        tfidf = Tfidf(analyzer, known, np.ones(len(known), dtype=np.float32))
        for text in texts:
            counts = sorted(Counter(known.index(term) for term in analyzer.terms(text) if term in known).items())
            indices, values = tfidf.vector(text)
            assert indices.tolist() == [position for position, _ in counts]
            weights = 1.0 + np.log([n for _, n in counts])
            np.testing.assert_allclose(values, weights / max(1.0, np.linalg.norm(weights)), rtol=1e-6)
