"""From a saved model to a champion and back, on a real MLflow store and database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifiers.tasks import TaskParams, cross_validate, train
from experiments.ab_report import log_comparison, log_plan, verdict_file
from experiments.ab_test import Plan, compare_classifiers
from experiments.tracking import read_json, start
from modelyard.errors import CorruptModel, PromotionRefused, RegistryError
from modelyard.predictors import write_artifact
from modelyard.registry import champions, promotion
from modelyard.registry.champions import load_champion
from modelyard.registry.mlflow_store import MlflowStore
from modelyard.registry.promotion import history, promote, register, rollback
from modelyard.registry.verdict import Verdict
from modelyard.registry.versions import challenger_version, load_version
from modelyard.settings import Settings
from modelyard.tasks import LearnedClassifier
from modelyard.types import Message

pytestmark = pytest.mark.slow

PROMPTS = {
    "maths": "solve the equation {} x = {} for x",
    "css": "centre a div of width {} px with flexbox, gap {} px",
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Write small, real classifiers, a different one a seed."""
    texts = [PROMPTS[name].format(i, i + 1) for i in range(30) for name in PROMPTS]
    folder = tmp_path_factory.mktemp("saved")

    def make(seed: int) -> Path:
        path = folder / f"classifier-{seed}"
        if not path.exists():
            params = TaskParams(strength=float(seed))
            classifier = train(texts, params, cross_validate(texts, {"domain": [*PROMPTS] * 30}, params, folds=2))
            write_artifact(path, "classifier", classifier.state(), {"seed": seed})
        return path

    return make


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: making them takes seconds, copying them none."""
    home = tmp_path_factory.mktemp("store")
    MlflowStore(Settings(home=home)).client.search_registered_models()
    return home / "mlflow.db"


@pytest.fixture(autouse=True)
def _store(settings: Settings, fresh_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings.home.mkdir(parents=True)
    shutil.copy(fresh_store, settings.home / "mlflow.db")
    yield
    assert list(elsewhere.iterdir()) == [], "something was written where the process stands"


def judged(settings: Settings, version: str, champion: str | None) -> Verdict:
    """Run a comparison that the challenger wins, and return its verdict as the gate would read it."""
    rng = np.random.default_rng(0)
    right = (rng.random(200) < 0.6).astype(float)
    baseline = "champion" if champion else "rules"
    plan = Plan("classifier", baseline, ("learned",), 0.02, "5f3a", metric="accuracy", resamples=1000)
    versions = {"learned": version} | ({"champion": champion} if champion else {})
    with start(settings, "ab-test").run("ab-test") as run:
        log_plan(run, plan)
        arms = {baseline: right, "learned": np.maximum(right, rng.random(200) < 0.5)}
        log_comparison(run, compare_classifiers(arms, plan=plan, domains=["x"] * 200, versions=versions), "ab-test")
    return Verdict.from_json(read_json(settings, run.id, verdict_file("learned")))


def promoted(settings: Settings, version: str) -> None:
    current = champions.read_current("classifier", settings)
    verdict = judged(settings, version, current.version if current else None)
    promote("classifier", version, who="ada", reason="it won", verdict=verdict, settings=settings)


def serving(settings: Settings) -> str:
    found = load_champion("classifier", settings)
    assert found is not None
    classifier = LearnedClassifier.from_artifact(found.artifact, f"classifier {found.version}")
    assert classifier.classify(Message.of("solve the equation 3 x = 4 for x")).domain == "maths"
    return found.version


def test_versions_are_registered_promoted_and_rolled_back(
    settings: Settings, saved: Callable[[int], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with start(settings, "train-classifier").run("train") as run:
        first = register("classifier", saved(1), run_id=run.id, settings=settings, about={"candidate": "words"})
    second = register("classifier", saved(2), run_id=None, settings=settings)
    assert (first, second) == ("1", "2")
    assert challenger_version("classifier", settings) == "2"
    assert load_version("classifier", "1", settings).artifact.manifest["about"] == {"seed": 1}

    promoted(settings, "1")
    promoted(settings, "2")
    store = MlflowStore(settings)
    assert (serving(settings), store.alias("classifier", "champion")) == ("2", "2")
    with pytest.raises(PromotionRefused, match="it is the champion already"):
        promoted(settings, "2")

    rollback("classifier", who="bob", reason="complaints", settings=settings)
    assert (serving(settings), store.alias("classifier", "champion")) == ("1", "1")
    moves = [(e.move.action, e.move.from_version, e.move.to_version, e.took_effect) for e in history(None, settings)]
    assert moves == [("rollback", "2", "1", True), ("promote", "1", "2", True), ("bootstrap", None, "1", True)]
    assert history("classifier", settings)[2].move.run_ids[0] == run.id
    version = store.client.get_model_version("modelyard-classifier", "1")
    assert (version.run_id, version.tags["candidate"]) == (run.id, "words")
    assert capfd.readouterr() == ("", "")


def test_registered_model_is_an_mlflow_model(settings: Settings, saved: Callable[[int], Path]) -> None:
    import mlflow

    register("classifier", saved(1), run_id=None, settings=settings)
    uri = MlflowStore(settings).client.get_model_version("modelyard-classifier", "1").source
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(settings.tracking)
    try:
        model = mlflow.pyfunc.load_model(uri)
        found = model.predict({"prompt": ["solve the equation 1 x = 2 for x"]})
    finally:
        mlflow.set_tracking_uri(before)
    assert found[0]["domain"] == "maths"
    assert model.metadata.signature.inputs.input_names() == ["prompt"]
    assert model.input_example is not None


def test_corrupt_registered_model_is_refused_and_the_champion_serves_on(
    settings: Settings, saved: Callable[[int], Path]
) -> None:
    for seed in (1, 2):
        register("classifier", saved(seed), run_id=None, settings=settings)
    promoted(settings, "1")
    store = MlflowStore(settings)
    version = store.client.get_model_version("modelyard-classifier", "2")
    for path in (settings.artifacts / "models").glob(
        f"{version.source.split('models/')[1].split('/')[0]}/**/model.json"
    ):
        path.write_text(path.read_text().replace("maths", "chaos"))
    with pytest.raises(CorruptModel, match=r"The registered classifier 2 is corrupt: .*model\.json does not match"):
        promoted(settings, "2")
    with pytest.raises(CorruptModel):
        load_version("classifier", "2", settings)
    assert (serving(settings), store.alias("classifier", "champion")) == ("1", "1")


def test_deleted_artifacts_are_refused(settings: Settings, saved: Callable[[int], Path]) -> None:
    register("classifier", saved(1), run_id=None, settings=settings)
    shutil.rmtree(settings.artifacts)
    with pytest.raises(RegistryError, match="files of classifier 1 cannot be fetched"):
        promoted(settings, "1")
    assert load_champion("classifier", settings) is None


def test_what_is_not_registered_is_named(settings: Settings, saved: Callable[[int], Path]) -> None:
    with pytest.raises(RegistryError, match="No classifier is registered"):
        challenger_version("classifier", settings)
    register("classifier", saved(1), run_id=None, settings=settings)
    with pytest.raises(RegistryError, match="no version '7' of the classifier"):
        promoted(settings, "7")


def test_damaged_folder_is_not_registered(settings: Settings, saved: Callable[[int], Path], tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="no readable manifest"):
        register("classifier", tmp_path, run_id=None, settings=settings)
    with pytest.raises(RegistryError, match="No classifier is registered"):
        challenger_version("classifier", settings)


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (MlflowStore, "fetch"),
        (champions, "install"),
        (promotion, "record"),
        (MlflowStore, "set_alias"),
        (champions, "write_current"),
    ],
    ids=["fetch", "install", "record", "set_alias", "write_current"],
)
def test_promotion_that_breaks_leaves_the_champion(
    settings: Settings, saved: Callable[[int], Path], owner: Any, step: str
) -> None:
    for seed in (1, 2):
        register("classifier", saved(seed), run_id=None, settings=settings)
    promoted(settings, "1")
    real, calls = getattr(owner, step), []

    def broken(*args: Any) -> Any:
        calls.append(step)
        if len(calls) == 1:
            raise OSError("the disk is full")
        return real(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
        patch.setattr(owner, step, broken)
        promoted(settings, "2")
    assert (serving(settings), MlflowStore(settings).alias("classifier", "champion")) == ("1", "1")
    promoted(settings, "2")
    assert serving(settings) == "2"
