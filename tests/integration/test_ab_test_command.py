"""`ab-test`, `promote` and `history` as commands, on recorded outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelyard import settings as environment
from modelyard.outcomes import write_outcomes
from pipelines.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path / "yard"))
    environment.current.cache_clear()
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [
        {"prompt_id": f"p{i}", "dataset": "made", "domain": ("maths", "chat")[i % 2], "prompt": f"question {i}",
         "model": model, "score": float(rng.random() < quality), "cost_usd": cost}
        for i in range(200)
        for model, cost, quality in (("cheap", 0.001, 0.5), ("dear", 0.01, 0.9))
    ]  # fmt: skip
    write_outcomes(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "prices.toml").write_text("[cheap]\nrequest = 0.001\n[dear]\nrequest = 0.01\n")
    yield tmp_path
    environment.current.cache_clear()


def ab_test(*options: str) -> int:
    table = ["--outcomes", "t.parquet", "--models", "cheap,dear", "--prices", "prices.toml", "--margin", "0.02"]
    return main(["ab-test", *table, *options])


def test_policies_are_compared_and_only_a_registered_one_can_be_promoted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ab_test("--policies", "cheapest,static:dear,rules", "--baseline", "cheapest", "--json", "ab.json") == 0
    screen = capsys.readouterr().out
    report = json.loads((home / "ab.json").read_text())
    found = report["results"]["challengers"]["static:dear"]
    assert (report["schema"], report["command"], report["n"], found["outcome"]) == (1, "ab-test", 200, "better")
    assert set(found["domains"]) == {"chat", "maths"}
    assert report["plan"]["sha256"][:12] in screen
    assert f"{found['score_difference']['value']:.3f}" in screen

    promotion = ["promote", "--component", "router", "--version", "1", "--challenger", "static:dear"]
    assert main([*promotion, "--verdict", "ab.json"]) == 2
    assert "the verdict is about an unregistered challenger (static:dear)" in capsys.readouterr().err
    assert main([*promotion, "--run", report["run_id"]]) == 2
    assert "the verdict is about an unregistered challenger (static:dear)" in capsys.readouterr().err
    assert main(["history"]) == 0
    assert capsys.readouterr().out == "Nothing was promoted yet.\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--policies", "cheapest,rules", "--baseline", "learned:x"), "must be one of the policies cheapest, rules"),
        (("--policies", "cheapest", "--baseline", "cheapest"), "two or more arms"),
        (("--policies", "cheapest,oracle", "--baseline", "cheapest"), "but got 'oracle'"),
        (("--policies", "cheapest,champion", "--baseline", "cheapest"), "No router was promoted yet"),
        (("--policies", "cheapest,static:x", "--baseline", "cheapest"), "'x' is not among the candidates"),
        (("--policies", "cheapest,rules", "--baseline", "cheapest", "--rows", "none"), "none cannot be read"),
        (("--policies", "cheapest,rules", "--baseline", "cheapest", "--margin", "0"), "positive number, but got 0"),
    ],
)
def test_bad_input_ends_with_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    assert ab_test(*options) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
