"""A yard with champions that were really promoted, copied for every test, and commands run in it as processes of their own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.outcomes import write_outcomes

ROOT = Path(__file__).parents[2]
MODELS = "local-sm,local-md"
PROMPTS = 160
PROMPT = "centre a box of width 7 px"
DOCUMENTS = {
    "flexbox": "# Flexbox\n\nUse flexbox with align-items and justify-content to centre a box.\n",
    "grid": "# Grid\n\nUse grid for rows and columns.\n\nA grid lays out two axes at once.\n",
}
ASK = "import sys; from modelyard.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Done:
    """A process that ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Yard:
    """A home, and the folder in which commands are given."""

    home: Path
    work: Path

    def run(self, *words: str, prefix: tuple[str, ...] = (), **variables: str) -> Done:
        return self._process((*prefix, sys.executable, "-m", "pipelines", *words), variables)

    def ask(self, **variables: str) -> Done:
        return self._process((sys.executable, "-c", ASK, "ask", PROMPT), variables)

    def served_by(self) -> tuple[str, str]:
        """Ask as an application would, and return who read the task and who chose the model."""
        done = self.ask()
        assert (done.code, done.err) == (0, ""), done.err
        (versions,) = [line for line in done.out.splitlines() if line.startswith("Versions")]
        found = dict(pair.split() for pair in versions.removeprefix("Versions").strip().split(", "))
        return found["classifier"], found["router"]

    def state(self) -> dict[str, Any]:
        """What a command that fails must leave as it was."""
        return {
            "files": contents(self.work),
            "champions": contents(self.home / "champions"),
            "indexes": contents(self.home / "indexes"),
            "partial": sorted(str(path) for path in self.home.rglob("*.partial")),
            "aliases": self._rows("SELECT name, alias, version FROM registered_model_aliases ORDER BY 1, 2"),
            "versions": self._rows("SELECT name, version FROM model_versions ORDER BY 1, 2"),
            "running": self._rows("SELECT run_uuid FROM runs WHERE status = 'RUNNING'"),
        }

    def registered(self, component: str, version: int) -> Path:
        """Return the folder in which MLflow keeps the files of a registered version."""
        ((source,),) = self._rows(
            "SELECT storage_location FROM model_versions WHERE name = ? AND version = ?",
            (f"modelyard-{component}", version),
        )
        (manifest,) = Path(source.removeprefix("file://")).rglob("data/*/manifest.json")
        return manifest.parent

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with closing(sqlite3.connect(self.home / "mlflow.db")) as database:
            return database.execute(query, tuple(values)).fetchall()

    def _process(self, command: tuple[str, ...], variables: dict[str, str]) -> Done:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MODELYARD_HOME": str(self.home)} | variables
        done = subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        return Done(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, str]:
    """Return every file's hash by its path, and folders with none."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def copied(template: Yard, place: Path) -> Yard:
    """Copy a yard; MLflow writes absolute places into its database, and they must be those of the copy."""
    yard = Yard(place / "yard", place / "work")
    shutil.copytree(template.home, yard.home)
    shutil.copytree(template.work, yard.work)
    with closing(sqlite3.connect(yard.home / "mlflow.db")) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
        ):
            places = (str(template.home), str(yard.home))
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", places)
    return yard


def shared_template(folder: Path) -> Yard:
    """Return the yard that all workers of a test run copy; the first one makes it, by the commands that a user would give."""
    yard = Yard(folder / "template" / "yard", folder / "template" / "work")
    with (folder / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "template.done").exists():
            shutil.rmtree(folder / "template", ignore_errors=True)
            _make(yard)
            (folder / "template.done").touch()
    return yard


def _make(yard: Yard) -> None:
    yard.work.mkdir(parents=True)
    (yard.work / "docs").mkdir()
    for name, text in DOCUMENTS.items():
        (yard.work / "docs" / f"{name}.md").write_text(text, "utf-8")
    write_outcomes(pa.Table.from_pylist(outcome_rows()), yard.work / "outcomes.parquet")
    write_labels(yard.work / "labels.jsonl")
    router = ("train-router", "--outcomes", "outcomes.parquet", "--candidate", "average", "--folds", "2")
    compare = ("ab-test", "--outcomes", "outcomes.parquet", "--models", MODELS, "--margin", "0.02")
    labels = ("train-classifier", "--table", "labels.jsonl", "--folds", "2")
    policies = ("--policies", "challenger,static:local-md", "--baseline", "static:local-md")
    for words in (
        ("build-index", "--documents", "docs"),
        router,
        (*compare, *policies, "--json", "ab.json"),
        ("promote", "--component", "router", "--verdict", "ab.json"),
        (*labels, "--candidate", "logistic", "--json", "c.json"),
        ("promote", "--component", "classifier", "--verdict", "c.json"),
        (*router, "--seed", "1"),
        (*labels, "--candidate", "lightgbm"),
    ):
        done = yard.run(*words)
        assert done.code == 0, f"{words[0]}: {done.out}{done.err}"


def outcome_rows() -> list[dict[str, Any]]:
    """Outcomes from which a router learns that each model is the better one in its own domain."""
    rng, rows = np.random.default_rng(0), []
    for i in range(PROMPTS):
        hard = bool(i % 2)
        prompt = f"prove theorem {i} about finite graphs" if hard else f"centre a box of width {i} px"
        for model, quality in (("local-sm", 0.2 if hard else 0.9), ("local-md", 0.9 if hard else 0.6)):
            score = float(np.clip(quality + rng.normal(0, 0.05), 0, 1))
            rows.append(
                {"prompt_id": f"p{i}", "dataset": "made", "domain": ("css", "maths")[hard], "prompt": prompt,
                 "model": model, "score": score}
            )  # fmt: skip
    return rows


def write_labels(path: Path) -> None:
    """Write a labelled table of 100 prompts."""
    rows = [
        {"prompt_id": row["prompt_id"], "prompt": row["prompt"], "domain": row["domain"],
         "complexity": "complex" if row["domain"] == "maths" else "simple"}
        for row in outcome_rows()[:200:2]
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
