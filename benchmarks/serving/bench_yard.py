"""Makes the yard that the benchmarks serve: two stub models with two deployments each, a learned classifier and router, a key with limits.

The classifier and the router are learned from what the local models answered to `web_tasks`, renamed: what they decide does not matter
here, what a decision costs does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

STUBS: Final = ("stub-small", "stub-large")
CATALOG: Final = """
[models.stub-small]
kind = "openai"
input = 0.15
output = 0.6
[models.stub-small.deployments.a]
base_url = "http://127.0.0.1:{port}/v1"
[models.stub-small.deployments.b]
base_url = "http://127.0.0.1:{port}/v1"

[models.stub-large]
kind = "openai"
input = 2.5
output = 10.0
[models.stub-large.deployments.a]
base_url = "http://127.0.0.1:{port}/v1"
[models.stub-large.deployments.b]
base_url = "http://127.0.0.1:{port}/v1"

[composites.bench]
description = "Two stubs behind a learned router, each the other's fallback."
candidates = ["stub-small", "stub-large"]
fallback = "stub-large"
passages = 0

[composites.bench-rag]
description = "The same with retrieval."
candidates = ["stub-small", "stub-large"]
fallback = "stub-large"
passages = 4
"""


def make(home: Path, port: int, *, sentences: bool = False) -> dict[str, str]:
    """Fill `home` and return the environment to serve it with; `sentences` lets the classifier look a second time."""
    import pyarrow as pa

    from classifiers import routers, selection
    from eval_sets import load_tasks
    from modelyard.embedding.minilm import load_minilm
    from modelyard.outcomes import OutcomeMatrix, read_outcomes, write_outcomes
    from modelyard.predictors import write_artifact
    from modelyard.registry.champions import Current, champion_folder, write_current
    from modelyard.settings import Settings

    catalog = home / "catalog.toml"
    home.mkdir(parents=True, exist_ok=True)
    catalog.write_text(CATALOG.format(port=port), "utf-8")
    environment = {
        **os.environ,
        "MODELYARD_HOME": str(home),
        "MODELYARD_CATALOG": str(catalog),
        "MODELYARD_AUTH": "keys",
    }
    settings = Settings(home=home, catalog=catalog)

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    outcomes = home / "outcomes.parquet"
    run(sys.executable, "-m", "pipelines", "build-index")
    run(sys.executable, "-m", "pipelines", "collect-outcomes", "--models", "local-sm,local-md", "--out", str(outcomes))
    table = read_outcomes(outcomes)
    names = dict(zip(("local-sm", "local-md"), STUBS, strict=True))
    column = pa.array([names[name] for name in table.column("model").to_pylist()])
    write_outcomes(table.set_column(table.schema.get_field_index("model"), "model", column), outcomes)
    if sentences:
        run(str(Path(sys.executable).with_name("modelyard")), "models", "install")
    rows = load_tasks(Path(__file__).parents[2] / "eval_sets" / "web_tasks").rows
    labels = {"domain": [row.domain for row in rows], "complexity": [row.complexity for row in rows]}
    chosen = selection.select([row.prompt for row in rows], labels, folds=3, sentences=load_minilm(settings))
    matrix = OutcomeMatrix.of(read_outcomes(outcomes), STUBS, str(outcomes))
    params = next(iter(routers.CANDIDATES.values()))
    router, _ = routers.train(routers.prepare(matrix, params), params)
    for component, state in (("classifier", chosen.classifier.state()), ("router", router.state())):
        sha256 = write_artifact(champion_folder(component, "1", settings), component, state)
        write_current(component, Current("1", sha256), settings)
    return environment
