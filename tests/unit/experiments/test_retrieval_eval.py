from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.retrieval_eval import METRICS, bootstrap_mean, evaluate, rank_documents, score_ranking
from modelyard.errors import InvalidInput
from modelyard.retrieval import Document, Index
from tests.unit.retrieval.knowledge import knowledge

QUERIES = {"q1": "effect runs twice", "q2": "requests a minute", "q3": "center a grid"}


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.build(knowledge())


def test_metrics_of_a_ranking_by_hand() -> None:
    # Ranks 2 and 4 hold gains 1 and 2; one relevant document of gain 3 is missing.
    scores = score_ranking(["a", "b", "c", "d"], {"b": 1, "d": 2, "z": 3, "c": 0})
    dcg = 1 / math.log2(3) + 2 / math.log2(5)
    ideal = 3 + 2 / math.log2(3) + 1 / math.log2(4)
    assert scores["ndcg@10"] == pytest.approx(dcg / ideal)
    assert scores["mrr@10"] == 0.5
    assert [scores[f"recall@{k}"] for k in (1, 5, 10)] == [0.0, pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert [scores[f"hit@{k}"] for k in (1, 5, 10)] == [0.0, 1.0, 1.0]


def test_perfect_and_empty_rankings() -> None:
    assert set(score_ranking(["a"], {"a": 1}).values()) == {1.0}
    assert set(score_ranking([], {"a": 1}).values()) == {0.0}
    assert score_ranking(["x"] * 10 + ["a"], {"a": 1})["ndcg@10"] == 0.0


def test_more_than_ten_relevant_documents_can_still_be_ideal() -> None:
    judged = {f"d{n}": 1.0 for n in range(20)}
    scores = score_ranking(list(judged)[:10], judged)
    assert (scores["ndcg@10"], scores["recall@10"]) == (1.0, 0.5)


def test_every_judged_query_is_scored(index: Index) -> None:
    qrels = {"q1": {"effects": 1.0}, "q2": {"limits": 1.0}, "q3": {"layout": 0.0}}
    report = evaluate(index, QUERIES, qrels)
    assert set(report.per_query) == {"q1", "q2"}  # q3 has no relevant document
    facts = report.to_json()
    assert facts["hit@1"]["value"] == 1.0
    assert facts["query_ms"]["p50"] <= facts["query_ms"]["p99"]
    assert set(facts) == {*METRICS, "query_ms", "per_query"}


def test_a_document_counts_once_by_its_best_passage(index: Index) -> None:
    ranking = rank_documents(index, "effect component requests grid")
    assert len(ranking) == len(set(ranking)) == 3


def test_ranking_goes_on_until_enough_documents_are_found() -> None:
    long = Document("long", "\n\n".join(f"# Part {n}\n\nThe yard has tracks." for n in range(100)), "Long")
    short = [Document(f"d{n}", "Some tracks elsewhere, far from it.", "Short") for n in range(12)]
    assert len(rank_documents(Index.build([long, *short]), "yard tracks")) == 10


def test_judgements_without_query_or_relevance_are_named(index: Index) -> None:
    with pytest.raises(InvalidInput, match="'q9'"):
        evaluate(index, QUERIES, {"q9": {"effects": 1.0}})
    with pytest.raises(InvalidInput, match="No query has a relevant document"):
        evaluate(index, QUERIES, {"q1": {"effects": 0.0}})


def test_interval_holds_the_mean_and_narrows_with_n() -> None:
    values = np.random.default_rng(1).random(400)
    few, many = bootstrap_mean(values[:25]), bootstrap_mean(values)
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert few.low < values[:25].mean() < few.high
    assert many.high - many.low < few.high - few.low
    assert bootstrap_mean(values) == many
    assert bootstrap_mean(values[:1]).value is None
