from __future__ import annotations

import numpy as np

from modelyard.embedding import Tfidf
from modelyard.embedding.tfidf import Analyzer
from modelyard.predictors import Linear

TEXTS = ["a red box", "a blue box", "no box", ""]


def test_one_text_scores_as_in_a_table() -> None:
    tfidf = Tfidf.fit(TEXTS, analyzer=Analyzer(1), min_df=1)
    random = np.random.default_rng(3)
    linear = Linear(
        random.normal(size=(len(tfidf), 3)).astype(np.float32), random.normal(size=(2, 3)), random.normal(size=3)
    )
    dense = random.normal(size=(len(TEXTS), 2))
    table = linear.many(tfidf.matrix(TEXTS), dense)

    np.testing.assert_allclose(
        table, tfidf.matrix(TEXTS).toarray() @ linear.sparse + dense @ linear.dense + linear.bias, atol=1e-6
    )
    for text, features, row in zip(TEXTS, dense, table, strict=True):
        np.testing.assert_allclose(linear.one(tfidf.vector(text), features), row, atol=1e-6)
        rebuilt = Linear.from_state(*linear.state())
        np.testing.assert_array_equal(
            rebuilt.one(tfidf.vector(text), features), linear.one(tfidf.vector(text), features)
        )


def test_maps_beside_each_other_score_as_each_alone() -> None:
    tfidf = Tfidf.fit(TEXTS, analyzer=Analyzer(1), min_df=1)
    random = np.random.default_rng(5)
    maps = [
        Linear(
            random.normal(size=(len(tfidf), n)).astype(np.float32), random.normal(size=(2, n)), random.normal(size=n)
        )
        for n in (1, 4)
    ]
    both, dense = Linear.beside([maps[0], maps[0].silent(2), maps[1]]), random.normal(size=2)

    for text in TEXTS:
        vector = tfidf.vector(text)
        expected = np.concatenate([maps[0].one(vector, dense), np.zeros(2), maps[1].one(vector, dense)])
        np.testing.assert_allclose(both.one(vector, dense), expected, atol=1e-6)
