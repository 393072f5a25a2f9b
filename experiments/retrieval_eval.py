"""How well an index finds what it should: hit rate, recall, reciprocal rank and nDCG against relevance judgements.

Notation:
    k      length of the ranking that is looked at
    gain   relevance of a document to a query; > 0 is relevant
    nDCG@k = Σ gain_i / log2(i + 1) over ranks i ≤ k, divided by the same of the ideal order (Järvelin & Kekäläinen 2002, with linear
             gains, as trec_eval and ir-measures compute it)

A document's score is its best passage's. Queries without a relevant document are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from experiments.statistics import Estimate
from modelyard.errors import InvalidInput
from modelyard.retrieval import Index

Qrels = Mapping[str, Mapping[str, float]]

CUTOFFS: Final = (1, 5, 10)
DEPTH: Final = 10
METRICS: Final = ("ndcg@10", "recall@1", "recall@5", "recall@10", "mrr@10", "hit@1", "hit@5", "hit@10")
RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Every metric by query, and the time of each search in milliseconds."""

    per_query: Mapping[str, Mapping[str, float]]
    query_ms: npt.NDArray[np.float64]
    seed: int

    @property
    def n(self) -> int:
        """Number of queries."""
        return len(self.per_query)

    def estimates(self) -> dict[str, Estimate]:
        """Return the mean of every metric with its interval over queries."""
        names = list(self.per_query)
        return {
            metric: bootstrap_mean(np.array([self.per_query[name][metric] for name in names]), self.seed)
            for metric in METRICS
        }

    def to_json(self) -> dict[str, Any]:
        """Return means, times and the queries, JSON-ready."""
        p50, p99 = np.percentile(self.query_ms, [50, 99]).tolist()
        means = {metric: estimate.to_json() for metric, estimate in self.estimates().items()}
        per_query = {name: dict(values) for name, values in self.per_query.items()}
        return {**means, "query_ms": {"p50": p50, "p99": p99}, "per_query": per_query}


def evaluate(index: Index, queries: Mapping[str, str], qrels: Qrels, *, seed: int = 0) -> RetrievalReport:
    """Search every judged query and score the rankings.

    Raises:
        InvalidInput: No query has a relevant document.
    """
    per_query: dict[str, dict[str, float]] = {}
    times: list[float] = []
    for name, judged in qrels.items():
        if name not in queries:
            raise InvalidInput(
                f"The judgements name the query {name!r}, which is not among the {len(queries)} queries."
            )
        if not any(gain > 0 for gain in judged.values()):
            continue
        start = time.perf_counter()
        ranking = rank_documents(index, queries[name])
        times.append((time.perf_counter() - start) * 1e3)
        per_query[name] = score_ranking(ranking, judged)
    if not per_query:
        raise InvalidInput(f"No query has a relevant document: {len(qrels)} queries were judged.")
    return RetrievalReport(per_query, np.array(times), seed)


def rank_documents(index: Index, query: str, depth: int = DEPTH) -> list[str]:
    """Return the ids of the best documents, best first, by their best passage."""
    k = 4 * depth
    while True:
        passages = index.search(query, k)
        found = list(dict.fromkeys(passage.document for passage in passages))
        if len(found) >= depth or len(passages) < k:
            return found[:depth]
        k *= 4


def score_ranking(ranking: Sequence[str], judged: Mapping[str, float]) -> dict[str, float]:
    """Return every metric of one ranking; `judged` holds at least one gain > 0."""
    gains = np.array([max(0.0, judged.get(document, 0.0)) for document in ranking[:DEPTH]])
    relevant = gains > 0
    total = sum(gain > 0 for gain in judged.values())
    ideal = np.sort(np.array([gain for gain in judged.values() if gain > 0], dtype=np.float64))[::-1][:DEPTH]
    first = np.flatnonzero(relevant)
    return {
        "ndcg@10": _dcg(gains) / _dcg(ideal),
        **{f"recall@{k}": float(relevant[:k].sum() / total) for k in CUTOFFS},
        "mrr@10": float(1.0 / (first[0] + 1)) if len(first) else 0.0,
        **{f"hit@{k}": float(relevant[:k].any()) for k in CUTOFFS},
    }


def bootstrap_mean(values: npt.NDArray[np.float64], seed: int = 0) -> Estimate:
    """Return the mean with its 95 % percentile bootstrap interval (Efron & Tibshirani 1993), resampling queries."""
    if len(values) < 2:
        return Estimate.undefined(f"an interval needs at least 2 queries, but there is {len(values)}")
    generator = np.random.default_rng(seed)
    means = np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return Estimate(float(values.mean()), low, high)


def _dcg(gains: npt.NDArray[np.float64]) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
