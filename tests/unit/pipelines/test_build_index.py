from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelyard.retrieval import current_index
from modelyard.retrieval.store import PassageStore
from modelyard.settings import Settings
from pipelines.__main__ import main
from tests.unit.retrieval.knowledge import knowledge


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for document in knowledge():
        (folder / f"{document.id}.md").write_text(document.source, "utf-8")
    return folder


@pytest.fixture(autouse=True)
def _own_home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.build_index.current", lambda: settings)


def test_index_is_built_stored_and_current(documents: Path, settings: Settings, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["build-index", "--documents", str(documents), "--json", str(report)]) == 0
    assert main(["build-index", "--documents", str(documents)]) == 0  # again changes nothing
    facts, index = json.loads(report.read_text("utf-8")), current_index(settings)
    assert index is not None
    assert (facts["version"], facts["documents"], facts["stored"]) == (index.version, 3, facts["passages"])
    with PassageStore(settings) as store:
        assert store.versions() == (index.version,)


def test_a_failed_build_leaves_the_index_before_it(
    documents: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build-index", "--documents", str(documents)]) == 0
    before = current_index(settings)
    (documents / "bad.md").write_bytes(b"\xff\xfe")
    assert main(["build-index", "--documents", str(documents)]) == 2
    assert "bad.md cannot be read" in capsys.readouterr().err
    after = current_index(settings)
    assert before is not None and after is not None and after.version == before.version
