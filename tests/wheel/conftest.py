"""The wheel, installed in somebody else's application, and models that were registered in the yard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv

from classifiers import routers, tasks
from modelyard.outcomes import OutcomeMatrix
from modelyard.predictors import write_artifact
from modelyard.registry.promotion import promote, register
from modelyard.registry.verdict import Difference, Verdict
from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings

ROOT = Path(__file__).parents[2]
PROMPTS = {
    "maths": "solve the equation {} x = {} for x",
    "css": "centre a div of width {} px with flexbox, gap {} px",
}
TEXTS = [text.format(i, i + 1) for i in range(30) for text in PROMPTS.values()]
DOMAINS = [*PROMPTS] * 30
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [uv.find_uv_bin(), "build", "--quiet", "--wheel", "--offline", "--no-build-isolation"]
    subprocess.run([*command, "--python", sys.executable, "--out-dir", str(folder), str(ROOT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def application(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its own `classifiers` and `pipelines`, and the wheel in `vendor`."""
    folder = tmp_path_factory.mktemp("application")
    for name in ("classifiers", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"OWNER = 'the application, in {name}'\n")
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*command, "--target", str(folder / "vendor"), str(wheel)], check=True)
    return folder


@pytest.fixture(scope="session")
def elsewhere(application: Path) -> Run:
    """Run code in the application, in a fresh process that cannot see the repository, and return the JSON it prints.

    `-S` leaves out the site module, and with it the editable install's path file; third parties come in by their folder.
    """

    def run(code: str, settings: Settings | None = None) -> dict[str, Any]:
        libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        path = os.pathsep.join([str(application), str(application / "vendor"), *libraries])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD_", "MLFLOW_"))}
        own = {"PYTHONPATH": path, "MODELYARD_HOME": str(settings.home if settings else application / "yard")}
        done = subprocess.run(
            [sys.executable, "-S", "-c", code],
            cwd=application,
            env=kept | own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A yard with a small knowledge base and a promoted classifier and router, made by the repository's own code."""
    settings = Settings(home=tmp_path_factory.mktemp("yard"))
    documents = {"flexbox": "# Flexbox\n\nUse flexbox to centre a box.", "algebra": "# Algebra\n\nDivide both sides."}
    publish(Index.build([parse_document(name, text) for name, text in documents.items()]), settings)
    saved = tmp_path_factory.mktemp("saved")
    for component, state in (("classifier", classifier().state()), ("router", router().state())):
        write_artifact(saved / component, component, state)
        version = register(component, saved / component, run_id=None, settings=settings)
        promote(component, version, who="ada", reason="it won", verdict=won(component, version), settings=settings)
    return settings


def classifier() -> Any:
    params = tasks.TaskParams()
    heads = {"domain": DOMAINS, "complexity": ["simple", "simple", "complex", "complex"] * 15}
    return tasks.train(TEXTS, params, tasks.cross_validate(TEXTS, heads, params, folds=2))


def router() -> Any:
    """A router that has seen `local-md` do well on css and `local-sm` on maths."""
    css = np.array([domain == "css" for domain in DOMAINS], dtype=np.float64)
    n = len(TEXTS)
    matrix = OutcomeMatrix(
        prompt_ids=tuple(f"p{i}" for i in range(n)),
        prompts=tuple(TEXTS),
        domains=tuple(DOMAINS),
        models=("local-sm", "local-md"),
        scores=np.stack([1.0 - css, css], axis=1),
        costs_usd=np.full((n, 2), 1e-5),
        output_chars=np.full((n, 2), 400.0),
    )
    return routers.select(matrix, {"average": routers.CANDIDATES["average"]}, folds=2).router


def won(component: str, version: str) -> Verdict:
    return Verdict(
        component=component,
        challenger="learned",
        challenger_version=version,
        against="rules",
        against_version=None,
        metric="score",
        score=Difference(0.2, 0.1, 0.3),
        cost=Difference(0.0, 0.0, 0.0),
        margin=0.02,
        n=60,
        data="made by the test",
        run_id=None,
        outcome="better",
    )
