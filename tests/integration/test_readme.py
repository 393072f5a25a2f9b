"""The README cannot rot: its commands parse, its links lead somewhere, and its code runs."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.catalog import load_catalog

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = {
    "build-index",
    "collect-outcomes",
    "train-router",
    "ab-test",
}  # the others are parsed only: minutes, or no going back


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Every command line of the shell blocks, as words."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def pipelines() -> list[list[str]]:
    """Every `python -m pipelines` command: its name and options."""
    return [words[3:] for words in commands() if words[:3] == ["python", "-m", "pipelines"]]


def test_every_command_is_one_that_is_checked():
    others = [words for words in commands() if words[0] != "make" and words[:3] != ["python", "-m", "pipelines"]]

    assert others == [[".", ".venv/bin/activate"]]
    assert {words[0] for words in pipelines()} >= RUN


@pytest.mark.parametrize("words", pipelines(), ids=lambda words: words[0])
def test_pipeline_commands_parse(words: list[str]):
    parser_for = importlib.import_module("pipelines.__main__").parser_for

    parser_for(words[0]).parse_args(words[1:])


def test_make_targets_are_in_the_makefile():
    named = set(re.findall(r"\bmake ([a-z]+)\b", README))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))

    assert named >= {"demo", "test"}
    assert named <= targets


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_folders_of_the_table_are_there():
    folders = re.findall(r"^\| `(\w+)/` \|", README, flags=re.MULTILINE)

    assert "modelyard" in folders
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


def test_catalogue_example_is_a_catalogue(tmp_path: Path):
    (example,) = blocks("toml")
    path = tmp_path / "catalogue.toml"
    path.write_text(example, encoding="utf-8")

    catalog = load_catalog(path)

    assert "my-model" in catalog.composite("auto").candidates
    assert catalog.model("my-model").price.output == 1.5


@pytest.mark.slow
def test_engineers_commands_and_the_applications_code_run(tmp_path: Path):
    """In a folder that looks like the repository's root, so that what they write stays out of it."""
    (tmp_path / "eval_sets").symlink_to(ROOT / "eval_sets")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    for words in pipelines():
        if words[0] in RUN:
            run("-m", "pipelines", *words)
    (code,) = blocks("python")
    said = run("-c", code)

    assert "label" in said.lower()
    assert "local-" in said.splitlines()[-1]
