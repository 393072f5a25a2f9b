"""Bad input, given to the commands as a user gives it: one sentence, nothing half-written, and what served before serves on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from modelyard.registry.verdict import Difference, Verdict
from tests.integration.bad_yard import MODELS, ROOT, Done, Yard, copied, shared_template

pytestmark = pytest.mark.slow

CHAMPIONS = ("classifier-1", "router-1")
LEARN = ("--candidate", "average", "--folds", "2")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Yard:
    base = tmp_path_factory.getbasetemp()
    return shared_template(base if worker_id == "master" else base.parent)


@pytest.fixture
def yard(template: Yard, tmp_path: Path) -> Yard:
    return copied(template, tmp_path)


def ab_test(table: str, *options: str, policies: str = "cheapest,rules") -> tuple[str, ...]:
    plan = ("--policies", policies, "--baseline", policies.split(",", 1)[0], "--margin", "0.02")
    return (
        "ab-test",
        "--outcomes",
        table,
        *plan,
        *(options if "--models" in options else ("--models", MODELS, *options)),
    )


def train_router(table: str) -> tuple[str, ...]:
    return ("train-router", "--outcomes", table, *LEARN, "--json", "out.json")


def evaluate_router(train: str, test: str, models: str = MODELS) -> tuple[str, ...]:
    return ("evaluate-router", "--train", train, "--test", test, "--models", models, "--json", "out.json")


def tune(table: str) -> tuple[str, ...]:
    return ("tune", "--component", "router", "--outcomes", table, "--models", MODELS, "--trials", "1")


def refused(done: Done, *parts: str) -> None:
    assert done.code != 0, done.out
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("pipelines: ")
    for part in parts:
        assert part in done.err
    assert done.out == ""


def refused_without_a_trace(yard: Yard, words: tuple[str, ...], *parts: str, **how: object) -> None:
    """Run, and hold the command to the whole rule."""
    before = yard.state()
    refused(yard.run(*words, **how), *parts)  # pyright: ignore[reportArgumentType]
    assert yard.state() == before
    assert before["running"] == before["partial"] == []
    assert yard.served_by() == CHAMPIONS


def broken_table(yard: Yard, change: Callable[[pa.Table], pa.Table]) -> str:
    pq.write_table(change(pq.read_table(yard.work / "outcomes.parquet")), yard.work / "bad.parquet")
    return "bad.parquet"


def without_score(table: pa.Table) -> pa.Table:
    return table.drop_columns(["score"])


def with_nan(table: pa.Table) -> pa.Table:
    scores = table.column("score").to_pylist()
    scores[2] = float("nan")
    return table.set_column(table.schema.get_field_index("score"), "score", pa.array(scores))


def with_a_pair_twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(4, 1)])


def of_one_model(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table.column("model"), "local-sm"))


DEFECTS = {
    without_score: ("bad.parquet lacks the column 'score'",),
    with_nan: ("bad.parquet, row 3, column 'score'", "is nan"),
    with_a_pair_twice: ("bad.parquet, row 321", "'p2'", "'local-sm'", "already in row 5"),
    of_one_model: ("local-sm",),
}


@pytest.mark.parametrize("change", DEFECTS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("command", [ab_test, train_router], ids=lambda command: command.__name__)
def test_outcome_table_with_a_defect(yard: Yard, command: Callable[[str], tuple[str, ...]], change: Callable) -> None:
    refused_without_a_trace(yard, command(broken_table(yard, change)), *DEFECTS[change])


def test_defect_in_the_table_to_judge_on(yard: Yard) -> None:
    words = evaluate_router("outcomes.parquet", broken_table(yard, with_nan))
    refused_without_a_trace(yard, words, "bad.parquet, row 3, column 'score'", "nan")


def test_defect_in_the_table_to_tune_on(yard: Yard) -> None:
    refused_without_a_trace(yard, tune(broken_table(yard, without_score)), "bad.parquet lacks the column 'score'")


@pytest.mark.parametrize(
    "words",
    [
        ("collect-outcomes", "--eval-set", "empty", "--out", "out.parquet"),
        ("train-classifier", "--eval-set", "empty", "--json", "out.json"),
        ("tune", "--component", "classifier", "--eval-set", "empty"),
    ],
    ids=lambda words: words[0],
)
def test_empty_eval_set(yard: Yard, words: tuple[str, ...]) -> None:
    (yard.work / "empty").mkdir()
    (yard.work / "empty" / "tasks.jsonl").touch()
    refused_without_a_trace(yard, words, "empty/tasks.jsonl is empty")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (evaluate_router("outcomes.parquet", "outcomes.parquet", "local-sm"), ("--models", "'local-sm'")),
        (ab_test("outcomes.parquet", "--models", "local-md"), ("--models", "'local-md'")),
        (
            ("collect-outcomes", "--models", "gpt-4-0314", "--out", "o.parquet"),
            ("No deployment serves", "'gpt-4-0314'"),
        ),
        (("collect-outcomes", "--models", "nobody", "--out", "o.parquet"), ("No base model is called 'nobody'",)),
        (ab_test("outcomes.parquet", policies="cheapest,static:nobody"), ("'nobody'", MODELS.replace(",", ", "))),
        (ab_test("outcomes.parquet", "--models", "local-sm,nobody"), ("'nobody'",)),
    ],
    ids=["one to judge", "one to compare", "recorded", "unknown", "policy", "price"],
)
def test_models_that_cannot_be_chosen_from(yard: Yard, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused_without_a_trace(yard, words, *parts)


def test_composite_of_a_model_that_no_deployment_serves(yard: Yard) -> None:
    catalog = yard.work / "own.toml"
    catalog.write_text('[composites.mine]\ndescription = "x"\ncandidates = ["gpt-4-0314"]\nfallback = "gpt-4-0314"\n')
    words = ("collect-outcomes", "--out", "out.parquet")
    parts = ("own.toml", "'mine'", "'gpt-4-0314'", "no deployment serves")
    refused_without_a_trace(yard, words, *parts, MODELYARD_CATALOG=str(catalog))


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("file", ["model.json", "arrays.npz", "manifest.json"])
def test_corrupt_registered_router_is_not_compared(yard: Yard, file: str) -> None:
    damage(yard.registered("router", 2) / file)
    words = ab_test("outcomes.parquet", "--json", "out.json", policies="static:local-md,challenger")
    refused_without_a_trace(yard, words, "The registered router 2 is corrupt", file)


def test_registered_router_whose_files_are_gone_is_not_compared(yard: Yard) -> None:
    shutil.rmtree(yard.registered("router", 2))
    words = ab_test("outcomes.parquet", policies="static:local-md,challenger")
    refused_without_a_trace(yard, words, "router 2", str(yard.home))


@pytest.mark.parametrize("component", ["classifier", "router"])
def test_corrupt_registered_version_is_not_promoted(yard: Yard, component: str) -> None:
    gain, no_cost = Difference(0.1, 0.05, 0.15), Difference(0.0, 0.0, 0.0)
    against = ("champion 1", "1", "accuracy", gain, no_cost, 0.02, 100, "5f3a", None, "better")
    (yard.work / "won.json").write_text(json.dumps(Verdict(component, "challenger", "2", *against).to_json()), "utf-8")
    damage(yard.registered(component, 2) / "arrays.npz")
    words = ("promote", "--component", component, "--verdict", "won.json")
    refused_without_a_trace(yard, words, f"The registered {component} 2 is corrupt", "arrays.npz")


@pytest.mark.parametrize(
    "words",
    [
        train_router("none.parquet"),
        ab_test("outcomes.parquet", "--prices", "none.toml"),
        ("promote", "--component", "router", "--verdict", "none.json"),
        ("import-outcomes", "none.csv", "--layout", "long", "--out", "out.parquet"),
        ("train-classifier", "--eval-set", "none"),
        ("build-index", "--documents", "none"),
        ("evaluate-retrieval", "--collection", "none"),
    ],
    ids=lambda words: next(f"{words[0]} {word}" for word in words if word.startswith("none")),
)
def test_missing_file(yard: Yard, words: tuple[str, ...]) -> None:
    refused_without_a_trace(yard, words, next(word for word in words if word.startswith("none")))


@pytest.mark.parametrize(
    "words",
    [
        ("import-outcomes", "latin.csv", "--layout", "long", "--out", "out.parquet"),
        ("evaluate-classifier", "--train", "labels.jsonl", "--test", "latin.csv", "--json", "out.json"),
        ("train-classifier", "--table", "latin.csv"),
    ],
    ids=lambda words: words[0],
)
def test_file_that_is_not_utf_8(yard: Yard, words: tuple[str, ...]) -> None:
    text = "prompt_id,prompt,domain,complexity,model,score\np1,hello,css,simple,a,1\np2,grüezi,css,simple,a,1\n"
    (yard.work / "latin.csv").write_bytes(text.encode("latin-1"))
    refused_without_a_trace(yard, words, "latin.csv, line 3", "UTF-8")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("tran-router",), ("'tran-router'", "train-router")),
        (("history", "--colour", "red"), ("--colour red", "history --help")),
        (ab_test("outcomes.parquet", "--seed", "x"), ("--seed", "'x'")),
        (("train-classifier", "--table", "labels.jsonl", "--margin", "nan"), ("--margin", "nan")),
    ],
    ids=["command", "option", "kind", "margin"],
)
def test_unknown_commands_and_wrong_options(yard: Yard, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused_without_a_trace(yard, words, *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[local-sm\nrequest = 1", ("is not TOML", "line 1")),
        ("[local-sm]\nrequest = -1\n", ("'local-sm'", "request", "-1")),
        ("[local-sm]\ninput = nan\n", ("'local-sm'", "input", "nan")),
        ("local-sm = 3\n", ("'local-sm'", "3")),
    ],
    ids=["syntax", "negative", "nan", "flat"],
)
def test_wrong_price_file(yard: Yard, text: str, parts: tuple[str, ...]) -> None:
    (yard.work / "prices.toml").write_text(text)
    words = ab_test("outcomes.parquet", "--prices", "prices.toml", "--json", "out.json")
    refused_without_a_trace(yard, words, "prices.toml", *parts)


@pytest.mark.parametrize(
    "words",
    [
        (*train_router("outcomes.parquet")[:-1], "place/out.json"),
        ("import-outcomes", "outcomes.parquet", "--layout", "long", "--out", "place/out.parquet"),
        ("collect-outcomes", "--out", "place/out.parquet"),
        ("history", "--json", "place/deeper/out.json"),
    ],
    ids=lambda words: words[0],
)
def test_output_that_cannot_be_written_is_refused_before_the_work(yard: Yard, words: tuple[str, ...]) -> None:
    (yard.work / "place").touch()
    refused_without_a_trace(yard, words, "place/", "cannot be written", "is not a folder")


def test_output_folder_that_is_read_only(yard: Yard, unprivileged: tuple[str, ...]) -> None:
    (yard.work / "place").mkdir(mode=0o555)
    words = (*train_router("outcomes.parquet")[:-1], "place/out.json")
    refused_without_a_trace(yard, words, "place/out.json", "cannot be written", "read-only", prefix=unprivileged)


def test_output_that_is_a_folder(yard: Yard) -> None:
    refused_without_a_trace(yard, ("history", "--json", "docs"), "--json docs", "it is a folder")


@pytest.mark.parametrize(
    "words", [train_router("outcomes.parquet"), ("build-index", "--documents", "docs")], ids=["train", "index"]
)
def test_home_that_cannot_be_written(yard: Yard, words: tuple[str, ...], unprivileged: tuple[str, ...]) -> None:
    yard.home.chmod(0o555)
    try:
        refused(yard.run(*words, prefix=unprivileged), "MODELYARD_HOME", str(yard.home), "read-only")
    finally:
        yard.home.chmod(0o755)
    assert yard.served_by() == CHAMPIONS


@pytest.fixture
def unprivileged(require_service: Callable[[str, object], None]) -> tuple[str, ...]:
    """What makes the modes of folders count, for whoever runs the tests: root may write everywhere."""
    if os.geteuid() != 0:
        return ()
    require_service("setpriv (Debian's package util-linux), which takes root's rights away,", shutil.which("setpriv"))
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def test_corrupt_index_is_named_and_building_it_anew_brings_it_back(yard: Yard) -> None:
    (arrays,) = (yard.home / "indexes").glob("*/arrays.npz")
    damage(arrays)
    before = yard.state()
    refused(yard.run("collect-outcomes", "--out", "out.parquet"), str(arrays), "does not match its manifest")
    asked = yard.ask()
    assert (asked.code, asked.out, asked.err.count("\n")) == (2, "", 1)
    assert str(arrays) in asked.err
    assert yard.state() == before
    assert yard.run("build-index", "--documents", "docs").code == 0
    assert yard.served_by() == CHAMPIONS


@pytest.mark.parametrize("content", ["hello", "0123456789abcdef", "\udcff"], ids=["word", "absent", "bytes"])
def test_file_that_names_no_index(yard: Yard, content: str) -> None:
    current = yard.home / "indexes" / "current"
    good = current.read_bytes()
    current.write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(yard.run("collect-outcomes", "--out", "out.parquet"), str(yard.home / "indexes"))
    assert not list(yard.work.glob("*out.parquet*"))
    current.write_bytes(good)
    assert yard.served_by() == CHAMPIONS


def test_index_of_the_option_is_checked_and_the_one_that_serves_is_not_touched(yard: Yard) -> None:
    (folder,) = (path for path in (yard.home / "indexes").iterdir() if path.is_dir())
    shutil.copytree(folder, yard.work / "index")
    damage(yard.work / "index" / "model.json")
    words = ("collect-outcomes", "--index", "index", "--out", "out.parquet")
    refused_without_a_trace(yard, words, "index/model.json", "does not match its manifest")


def test_tracking_store_that_is_none(yard: Yard) -> None:
    store, before = yard.home / "mlflow.db", yard.state()
    good = store.read_bytes()
    store.write_bytes(b"garbage" * 1000)
    refused(yard.run(*train_router("outcomes.parquet")), str(store), "cannot be opened")
    store.write_bytes(good)
    assert yard.state() == before
    assert yard.served_by() == CHAMPIONS


def test_study_whose_journal_is_damaged(yard: Yard) -> None:
    (yard.home / "optuna").mkdir()
    (yard.home / "optuna" / "mine.journal").write_text("garbage\n")
    refused_without_a_trace(yard, (*tune("outcomes.parquet"), "--study", "mine"), "mine.journal", "is damaged")


def test_command_that_is_told_to_stop_closes_its_run(yard: Yard) -> None:
    words = (sys.executable, "-m", "pipelines", *tune("outcomes.parquet")[:-1], "1000")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MODELYARD_HOME": str(yard.home)}
    with subprocess.Popen(words, cwd=yard.work, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not yard.state()["running"]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "pipelines: interrupted; what was finished is kept.\n")
    with closing(sqlite3.connect(yard.home / "mlflow.db")) as database:
        states = {state for (state,) in database.execute("SELECT DISTINCT status FROM runs")}
    assert states <= {"FINISHED", "KILLED"}
    assert "KILLED" in states
    assert yard.served_by() == CHAMPIONS
