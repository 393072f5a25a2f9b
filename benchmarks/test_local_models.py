"""How long search and the local models take: `pytest benchmarks/test_local_models.py --benchmark-enable`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelyard.catalog import load_catalog
from modelyard.generation import LocalExtractive
from modelyard.retrieval import Index, read_documents

DOCUMENTS = Path(__file__).parents[1] / "eval_sets" / "web_docs" / "docs"
PROMPT = "my useEffect fetches in an endless loop when I pass an object as dependency, how do i fix that? it also runs twice in dev"


@pytest.fixture(scope="module")
def index() -> Index:
    if not DOCUMENTS.is_dir():
        pytest.skip(f"the eval set's documents are not at {DOCUMENTS}")
    return Index.build(read_documents(DOCUMENTS))


def test_search(benchmark: Any, index: Index) -> None:
    assert benchmark(index.search, PROMPT, 4)


@pytest.mark.parametrize("name", ["local-sm", "local-md"])
def test_draft(benchmark: Any, index: Index, name: str) -> None:
    model = LocalExtractive(load_catalog().model(name), index)
    assert benchmark(model.draft, PROMPT).cited


def test_load(benchmark: Any, index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    assert len(benchmark(Index.load, tmp_path / "index")) == len(index)
