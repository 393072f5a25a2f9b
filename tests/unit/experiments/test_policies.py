from __future__ import annotations

from pathlib import Path

import pytest

from experiments.policies import policy_named, serving_classifier
from modelyard.errors import CorruptModel, InvalidInput, NoChampion
from modelyard.predictors import write_artifact
from modelyard.registry.champions import champion_folder
from modelyard.settings import Settings
from modelyard.tasks import RuleClassifier
from tests.unit.routing.toy import MESSAGE, MODELS, router, task
from tests.unit.serving.champions import crown_classifier, crown_router


@pytest.mark.parametrize(("name", "chosen"), [("static:middle", "middle"), ("cheapest", "cheap"), ("rules", "middle")])
def test_policies_without_learning(settings: Settings, name: str, chosen: str) -> None:
    found = policy_named(name, settings)
    assert (found.name, found.version) == (name, None)
    assert found.policy.route(MESSAGE, task(), MODELS).model == chosen


def test_saved_router_is_read_from_its_folder(settings: Settings, tmp_path: Path) -> None:
    write_artifact(tmp_path / "saved", "router", router().state())
    found = policy_named(f"learned:{tmp_path / 'saved'}", settings)
    assert found.version is None  # not registered, so that it cannot be promoted
    assert found.policy.route(MESSAGE, task(), MODELS).model == "dear"


def test_champion_is_what_serves(settings: Settings) -> None:
    crown_router(settings)
    found = policy_named("champion", settings)
    assert (found.version, found.policy.version) == ("5", "router 5")


def test_without_a_champion_the_alternatives_are_named(settings: Settings) -> None:
    with pytest.raises(NoChampion, match="No router was promoted yet: compare with `cheapest`"):
        policy_named("champion", settings)


@pytest.mark.parametrize("name", ["oracle", "static", "static:", "cheapest:x", "rules:x", "champion:2", ""])
def test_other_names_are_refused(settings: Settings, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"but got {name!r}"):
        policy_named(name, settings)


def test_damaged_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="has no readable manifest"):
        policy_named(f"learned:{tmp_path}", settings)


def test_classifier_that_serves(settings: Settings) -> None:
    assert isinstance(serving_classifier(settings), RuleClassifier)
    crown_classifier(settings)
    assert serving_classifier(settings).version == "classifier 2"
    (champion_folder("classifier", "2", settings) / "model.json").unlink()
    with pytest.raises(CorruptModel, match=r"model\.json"):
        serving_classifier(settings)
