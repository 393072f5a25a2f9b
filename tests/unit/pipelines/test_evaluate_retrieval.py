from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.__main__ import main
from tests.unit.experiments.test_beir import write_collection


def test_report_has_the_promised_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_collection(tmp_path, qrels="query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "sorted cars"}\n{"_id": "q2", "text": "a title"}\n')
    out = tmp_path / "out.json"
    assert main(["evaluate-retrieval", "--collection", str(tmp_path), "--json", str(out)]) == 0
    report = json.loads(out.read_text("utf-8"))
    results = report["results"]
    assert (report["schema"], report["command"], report["seed"], report["n"]) == (1, "evaluate-retrieval", 0, 2)
    assert results["ndcg@10"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert {"recall@1", "recall@5", "recall@10", "mrr@10", "hit@1", "hit@5", "hit@10"} < set(results)
    assert set(results["query_ms"]) == {"p50", "p99"}
    assert results["embedder"].startswith("lsa-")
    assert set(results["per_query"]) == {"q1", "q2"}
    assert "ndcg@10" in capsys.readouterr().out


def test_bad_collection_ends_with_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate-retrieval", "--collection", str(tmp_path / "none")]) == 2
    assert "has no corpus.jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_recorded_collection_is_found_well(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    collection = shared_data / "retrieval" / "anthropic_docs"
    assert main(["evaluate-retrieval", "--collection", str(collection), "--json", str(out)]) == 0
    assert json.loads(out.read_text("utf-8"))["results"]["ndcg@10"]["value"] > 0.77
