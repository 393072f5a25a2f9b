"""Puts champions where serving finds them."""

from __future__ import annotations

from classifiers.encoding import EncoderParams
from classifiers.tasks import TaskParams, cross_validate, train
from modelyard.predictors import State, write_artifact
from modelyard.registry.champions import Current, champion_folder, write_current
from modelyard.settings import Settings
from tests.unit.routing.toy import router
from tests.unit.tasks.prompts import LABELS, TEXTS

QUALITIES = {"local-sm": 0.4, "local-md": 0.8}


def crown(component: str, version: str, state: State, settings: Settings) -> None:
    sha256 = write_artifact(champion_folder(component, version, settings), component, state)
    write_current(component, Current(version, sha256), settings)


def crown_classifier(settings: Settings) -> None:
    params = TaskParams(encoder=EncoderParams(lsa_dimensions=6))
    crown("classifier", "2", train(TEXTS, params, cross_validate(TEXTS, LABELS, params, folds=2)).state(), settings)


def crown_router(settings: Settings, qualities: dict[str, float] = QUALITIES, cost_weight: float = 0.0) -> None:
    crown("router", "5", router(qualities, cost_weight=cost_weight).state(), settings)
