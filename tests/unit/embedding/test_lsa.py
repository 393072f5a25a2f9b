from __future__ import annotations

import json

import numpy as np
import pytest

from modelyard.embedding import Lsa, Tfidf
from modelyard.embedding.tfidf import Analyzer

SUBJECTS = ["centre a div with flexbox", "fetch json from the api", "a react effect runs twice", "index a sql table"]
TEXTS = [f"{start} {subject} {end}" for subject in SUBJECTS for start in ("how to", "why") for end in ("now", "please")]


def fit(texts: list[str] = TEXTS, dimensions: int = 4, seed: int = 0) -> Lsa:
    return Lsa.fit(Tfidf.fit(texts, analyzer=Analyzer(1)), texts, dimensions=dimensions, seed=seed)


def test_embeddings_have_unit_length() -> None:
    embeddings = fit().embed(TEXTS)

    assert embeddings.shape == (len(TEXTS), 4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("text", ["", "zzz", "☂"])
def test_text_without_a_known_term_embeds_to_zero(text: str) -> None:
    np.testing.assert_array_equal(fit().embed([text]), np.zeros((1, 4)))


def test_refit_gives_the_same_embedding() -> None:
    one, other = fit(), fit()

    np.testing.assert_array_equal(one.projection, other.projection)
    assert one.fingerprint == other.fingerprint


def test_texts_on_one_subject_lie_closer_than_texts_on_two() -> None:
    a, b, c = fit().embed(["why centre a div", "flexbox please", "sql index"])

    assert a @ b > a @ c


def test_fingerprint_tells_spaces_apart() -> None:
    assert len({fit().fingerprint, fit(dimensions=3).fingerprint, fit(TEXTS[:-4]).fingerprint}) == 3


def test_dimensions_shrink_to_what_the_texts_carry() -> None:
    assert fit(TEXTS[:3], dimensions=96).dimensions == 2


def test_too_few_texts_embed_to_zero() -> None:
    lsa = Lsa.fit(Tfidf.fit(["one text"], analyzer=Analyzer(1), min_df=1), ["one text"])

    np.testing.assert_array_equal(lsa.embed(["one text"]), np.zeros((1, 1)))


def test_no_texts_give_no_rows() -> None:
    assert fit().embed([]).shape == (0, 4)


def test_state_survives_json() -> None:
    before = fit()
    facts, arrays = before.state()
    after = Lsa.from_state(json.loads(json.dumps(facts)), arrays)

    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after.embed(TEXTS), before.embed(TEXTS))
