from __future__ import annotations

import numpy as np
import pytest

from classifiers.encoding import EncoderParams, fit_encoder
from modelyard.tasks.learned import DENSE_NAMES, dense_features

TEXTS = ["centre a div with css grid", "fetch json from an api", "why?", "centre a grid", "an sql index for a table"]
NAMED = np.array([name.startswith("keywords_") for name in DENSE_NAMES])


def test_dense_features_are_centred_and_weighed_by_kind() -> None:
    params = EncoderParams(min_df=1, lsa_dimensions=3, structure_weight=0.03, keyword_weight=0.25)
    dense = fit_encoder(TEXTS, params).many(TEXTS).dense
    spread = dense.std(axis=0)
    varying = np.stack([dense_features(text) for text in TEXTS]).std(axis=0) > 1e-9
    assert dense.mean(axis=0) == pytest.approx(np.zeros(dense.shape[1]), abs=1e-12)
    assert (varying & NAMED).any()
    assert spread[varying & NAMED] == pytest.approx(0.25)
    assert spread[varying & ~NAMED] == pytest.approx(0.03)


def test_feature_that_never_varied_stays_silent_whatever_comes() -> None:
    encoder = fit_encoder(["why is that", "why is this"], EncoderParams(min_df=1, lsa_dimensions=1))
    constant = np.stack([dense_features(text) for text in ("why is that", "why is this")]).std(axis=0) <= 1e-9
    strange = encoder.many(["```sql\nSELECT * FROM t;\n```\n" * 20]).dense[0]
    assert constant.any()
    assert not strange[constant].any()
    assert np.isfinite(strange).all()


def test_one_text_is_encoded_as_in_a_table() -> None:
    encoder = fit_encoder(TEXTS, EncoderParams(min_df=1, lsa_dimensions=3))
    table, (vector, lsa, dense) = encoder.many(TEXTS), encoder.one(TEXTS[1])
    np.testing.assert_allclose(dense, table.dense[1])
    np.testing.assert_allclose(lsa, table.lsa[1], atol=1e-6)
    row = np.zeros(table.terms)
    row[vector.indices] = vector.values
    np.testing.assert_allclose(row, np.asarray(table.sparse.todense())[1], atol=1e-6)


# In two texts or more stand: a, an, centre, grid and `centre a`.
@pytest.mark.parametrize(("params", "terms"), [({"min_df": 2}, 5), ({"min_df": 1, "max_terms": 7}, 7)])
def test_vocabulary_keeps_to_its_limits(params: dict[str, int], terms: int) -> None:
    encoder = fit_encoder(TEXTS, EncoderParams(**params, lsa_dimensions=2))
    assert len(encoder.lsa.tfidf) == terms


def test_characters_are_counted_where_asked_for() -> None:
    words = fit_encoder(TEXTS, EncoderParams(min_df=1, lsa_dimensions=2))
    characters = fit_encoder(TEXTS, EncoderParams(min_df=1, lsa_dimensions=2, chars=(2, 4)))
    assert len(characters.lsa.tfidf) > len(words.lsa.tfidf)
