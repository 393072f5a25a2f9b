from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modelyard import load
from modelyard.errors import CorruptModel, InvalidSetting, UnknownModel
from modelyard.registry.champions import champion_folder
from modelyard.retrieval import Index, publish
from modelyard.serving.loading import NO_CLASSIFIER, NO_ROUTER
from modelyard.settings import Settings
from tests.unit.retrieval.knowledge import knowledge
from tests.unit.serving.champions import crown_classifier, crown_router

PROMPT = "why does my effect run twice in dev?"
HEAVY = ["mlflow", "sklearn", "lightgbm", "chromadb", "openai", "pandas"]


def test_without_champions_rules_and_the_static_policy_serve_and_the_answer_says_so(settings: Settings) -> None:
    answer = load("auto", settings).ask(PROMPT)

    assert answer.notices == (NO_CLASSIFIER, NO_ROUTER)
    assert (answer.route.policy, answer.route.model) == ("static", "local-md")
    assert answer.task.classifier.startswith("rules")
    assert answer.versions.router == "static:local-md"
    assert answer.versions.index is None


def test_promoted_champions_serve_without_notices(settings: Settings) -> None:
    crown_classifier(settings)
    crown_router(settings)
    answer = load("auto", settings).ask("make the grid sticky")

    assert answer.notices == ()
    assert (answer.versions.classifier, answer.versions.router) == ("classifier-2", "router-5")
    assert (answer.task.domain, answer.route.policy, answer.route.model) == ("css", "learned", "local-md")


def test_champions_own_cost_weight_decides(settings: Settings) -> None:
    crown_router(settings, cost_weight=1e6)
    answer = load("auto", settings).ask(PROMPT)

    assert answer.route.model == "local-sm"
    assert answer.notices == (NO_CLASSIFIER,)


def test_router_that_knows_none_of_the_models_leaves_the_choice_to_the_static_policy(settings: Settings) -> None:
    crown_router(settings, {"far-a": 0.1, "far-b": 0.2})
    composite = load("auto", settings)

    assert composite.parts.policy.name == "static"
    assert any("Router 5 knows none" in notice for notice in composite.parts.notices)


def test_composite_of_one_model_needs_no_router(settings: Settings) -> None:
    crown_router(settings)
    composite = load("v0-1.5-lg", settings)

    assert (composite.parts.policy.version, composite.parts.notices) == ("static:local-md", (NO_CLASSIFIER,))


def test_base_model_is_loaded_by_its_name(settings: Settings) -> None:
    answer = load("local-sm", settings).ask(PROMPT)

    assert (answer.route.model, answer.versions.composite) == ("local-sm", "local-sm")


@pytest.mark.parametrize("name", ["nothing", "", "gpt-4-0314"])
def test_unknown_model_is_named_with_what_is_served(settings: Settings, name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        load(name, settings)

    said = str(caught.value)
    assert said.startswith(f"No model is called {name!r}; served here are auto, ")
    assert "local-sm, local-md" in said
    assert said.endswith(".")


@pytest.mark.parametrize(("component", "version"), [("classifier", "2"), ("router", "5")])
@pytest.mark.parametrize("file", ["model.json", "arrays.npz"])
def test_damaged_champion_does_not_serve(settings: Settings, component: str, version: str, file: str) -> None:
    crown_classifier(settings)
    crown_router(settings)
    path = champion_folder(component, version, settings) / file
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CorruptModel, match=file):
        load("auto", settings)


def test_catalogue_that_is_not_there_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match=r"nowhere\.toml"):
        load("auto", settings.model_copy(update={"catalog": settings.home / "nowhere.toml"}))


def test_answering_with_champions_and_an_index_imports_nothing_heavy(settings: Settings) -> None:
    crown_classifier(settings)
    crown_router(settings)
    publish(Index.build(knowledge()), settings)
    code = (
        f"import sys, modelyard; answer = modelyard.load('auto').ask({PROMPT!r}); assert answer.passages;"
        f" print([name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "MODELYARD_HOME": str(settings.home), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
