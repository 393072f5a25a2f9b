"""Holds a trained classifier against what serves now, prompt by prompt and out of fold.

A champion has seen the labelled prompts that it was trained on, so its own predictions for them would flatter it: its recipe is
cross-validated on the same folds instead. Where no champion serves, the cold-start rules are the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.encoding import EncoderParams
from classifiers.selection import Recipe, estimate
from classifiers.tasks import OutOfFold, TaskParams
from classifiers.trees import TreeParams
from experiments.ab_report import log_comparison, log_plan
from experiments.ab_test import Comparison, Plan, compare_classifiers
from experiments.tracking import start
from experiments.train_classifier import Labels, TrainedClassifier, right_by_rules, right_out_of_fold
from modelyard.embedding.minilm import load_minilm
from modelyard.errors import CorruptModel
from modelyard.registry.champions import load_champion
from modelyard.registry.verdict import Verdict
from modelyard.settings import Settings

EXPERIMENT = "ab-test"
FloatArray = npt.NDArray[np.float64]


def compare_with_serving(
    trained: TrainedClassifier, labels: Labels, settings: Settings, *, margin: float, folds: int = 5, seed: int = 0
) -> tuple[Comparison, Verdict]:
    """Compare, log in MLflow under a plan written first, and return the comparison and its verdict.

    The metric is the share of heads that are right, averaged over prompts.
    """
    champion = load_champion("classifier", settings)
    baseline = f"champion {champion.version}" if champion else "rules"
    plan = Plan("classifier", baseline, ("challenger",), margin, labels.sha256, metric="accuracy", seed=seed)
    with start(settings, EXPERIMENT).run(f"classifier challenger vs {baseline}") as run:
        log_plan(run, plan)
        right = {"challenger": _share_right(trained.out_of_fold)}
        versions = {"challenger": trained.version}
        if champion is None:
            right[baseline] = np.mean(
                [right_by_rules(labels.prompts, labels.heads[head], head) for head in labels.heads], axis=0
            )
        else:
            recipe = recipe_of(champion.artifact.manifest["about"], champion.version, labels.heads)
            sentences = load_minilm(settings)
            estimated = estimate(labels.prompts, labels.heads, recipe, folds=folds, seed=seed, sentences=sentences)
            right[baseline] = _share_right(estimated)
            versions[baseline] = champion.version
        domains = labels.heads.get("domain", labels.heads[next(iter(labels.heads))])
        comparison = compare_classifiers(right, plan=plan, domains=domains, versions=versions)
        log_comparison(run, comparison, "train-classifier")
        return comparison, comparison.verdict("challenger", run.id)


def recipe_of(about: Mapping[str, Any], version: str, heads: Iterable[str]) -> Recipe:
    """Rebuild the recipe that a manifest names, for these heads; one that a release before 0.2 wrote is the same for every head.

    Raises:
        CorruptModel: The manifest names none that this release knows, or none for one of the heads.
    """
    try:
        if "params" in about:
            return Recipe({head: _params(about["params"]) for head in heads}, {})
        facts = about["recipe"]
        first = {head: _params(facts["first"][head]) for head in heads}
        second = {head: _params(facts["second"][head]) for head in heads} if facts["second"] else {}
        return Recipe(first, second, float(facts["below"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModel(f"The manifest of classifier {version} names no recipe of this release: {error}.") from None


def _params(facts: Mapping[str, Any]) -> TaskParams:
    plain = dict(facts)
    encoder = dict(plain.pop("encoder"))
    chars = encoder.pop("chars")
    lengths = None if chars is None else (chars[0], chars[1])
    trees = TreeParams(**plain.pop("trees"))
    return replace(TaskParams(), **plain, encoder=EncoderParams(**encoder, chars=lengths), trees=trees)


def _share_right(out_of_fold: Mapping[str, OutOfFold]) -> FloatArray:
    return np.mean([right_out_of_fold(found) for found in out_of_fold.values()], axis=0)
