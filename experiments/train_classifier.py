"""Trains, judges and registers a task classifier, with every step in MLflow."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.selection import select
from classifiers.tasks import SEMANTIC_CANDIDATES, OutOfFold, TaskParams, candidates_for
from classifiers.trees import booster_library
from experiments.calibration import top_label
from experiments.evaluate_classifier import judge, trivial_baselines
from experiments.tracking import Run, new_figure, start
from experiments.train_router import flat
from modelyard.embedding.minilm import load_minilm
from modelyard.errors import InvalidInput
from modelyard.predictors import write_artifact
from modelyard.registry.promotion import register
from modelyard.settings import Settings
from modelyard.tasks import LearnedClassifier, RuleClassifier
from modelyard.tasks.learned import KIND
from modelyard.types import Message

EXPERIMENT = "modelyard-classifier"
MINIMUM_PROMPTS = 50


@dataclass(frozen=True, slots=True)
class Labels:
    """n labelled prompts: a label a head, and where they are from."""

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]
    source: str

    @property
    def sha256(self) -> str:
        """Hash of prompts and labels."""
        content = [self.ids, self.prompts, {name: list(values) for name, values in sorted(self.heads.items())}]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """A registered classifier.

    Attributes:
        version: In the registry.
        candidate: The candidates that cross-validation chose, head by head.
        metrics: Out-of-fold results, a head, in the form of `evaluate-classifier`, with `baselines` beside.
        out_of_fold: The predictions behind them.
        run_id: The MLflow run.
    """

    version: str
    classifier: LearnedClassifier
    candidate: str
    metrics: dict[str, dict[str, Any]]
    out_of_fold: Mapping[str, OutOfFold]
    run_id: str


def train_and_register(
    labels: Labels,
    settings: Settings,
    *,
    candidates: Mapping[str, TaskParams] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> TrainedClassifier:
    """Cross-validate the candidates, log, and register what is best head by head as challenger.

    Where the local sentence encoder is installed, a second look at the sentence's meaning is learned, too.

    Raises:
        InvalidInput: There are too few prompts or classes.
    """
    if len(labels.prompts) < MINIMUM_PROMPTS:
        raise InvalidInput(
            f"{labels.source}: a classifier needs at least {MINIMUM_PROMPTS} labelled prompts, got {len(labels.prompts)}."
        )
    tracker = start(settings, EXPERIMENT)  # first: a store that cannot be opened must not cost minutes of training
    sentences = load_minilm(settings)
    selection = select(labels.prompts, labels.heads, candidates, folds=folds, seed=seed, sentences=sentences)
    name, pooled = selection.name, selection.out_of_fold
    metrics = {head: _metrics(labels.prompts, found, head, folds, seed) for head, found in pooled.items()}
    params = {
        "folds": folds,
        "seed": seed,
        "trees": booster_library(),
        "prompts": len(labels.prompts),
        "sentence_encoder": sentences.fingerprint if sentences else "none: words alone",
    }
    recipes = {**candidates_for(len(labels.prompts)), **SEMANTIC_CANDIDATES, **(candidates or {})}
    with tracker.run("train-classifier", params=params) as run:
        run.log_dataset(Path(labels.source).name, labels.sha256, labels.source, "training", len(labels.prompts))
        for candidate, heads in selection.estimates.items():
            with tracker.run(candidate, parent=run, params=flat(asdict(recipes[candidate]))) as child:
                losses = {f"{head}.log_loss": found.log_loss for head, found in heads.items()}
                child.log_metrics({"log_loss": selection.losses[candidate], **losses})
        _log(run, name, float(np.mean([found.log_loss for found in pooled.values()])), pooled, metrics)
        about = {
            "candidate": name,
            "recipe": asdict(selection.recipe),
            "data_sha256": labels.sha256,
            "prompts": len(labels.prompts),
            **{f"{head}_macro_f1": found["macro_f1"] for head, found in metrics.items()},
        }
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "classifier"
            write_artifact(folder, KIND, selection.classifier.state(), about)
            version = register("classifier", folder, run_id=run.id, settings=settings, about=about)
        return TrainedClassifier(version, selection.classifier, name, metrics, pooled, run.id)


def right_out_of_fold(found: OutOfFold) -> npt.NDArray[np.float64]:
    """Return 1 where the out-of-fold prediction is right, else 0, shape (n,)."""
    return (found.probabilities.argmax(axis=1) == found.labels).astype(np.float64)


def right_by_rules(prompts: Sequence[str], labels: Sequence[str], head: str) -> npt.NDArray[np.float64]:
    """Return 1 where the cold-start rules are right about `domain` or `complexity`, else 0, shape (n,)."""
    rules = RuleClassifier()
    tasks = [rules.classify(Message.of(prompt)) for prompt in prompts]
    return np.array([float(getattr(task, head) == label) for task, label in zip(tasks, labels, strict=True)])


def _metrics(prompts: Sequence[str], found: OutOfFold, head: str, folds: int, seed: int) -> dict[str, Any]:
    baselines = trivial_baselines(prompts, found.labels, folds=folds, seed=seed)
    if head in ("domain", "complexity"):
        right = right_by_rules(prompts, [found.classes[label] for label in found.labels], head)
        baselines["rules"] = {"accuracy": float(right.mean())}
    return {
        **judge(found.probabilities, found.labels, found.classes),
        "log_loss": found.log_loss,
        "baselines": baselines,
    }


def _log(
    run: Run, name: str, loss: float, pooled: Mapping[str, OutOfFold], metrics: Mapping[str, dict[str, Any]]
) -> None:
    numbers = {"log_loss": loss}
    for head, found in metrics.items():
        numbers |= {f"{head}.{key}": value for key, value in found.items() if isinstance(value, float)}
        for label, row in found["per_class"].items():
            numbers |= {f"{head}.{label}.{key}": float(value) for key, value in row.items()}
        run.log_figure(_confusion(pooled[head]), f"{head}_confusion.png")
        run.log_figure(_reliability(pooled[head]), f"{head}_calibration.png")
    run.log_metrics(numbers)
    run.log_json(metrics, "out_of_fold.json")
    run.set_tags({"modelyard.candidate": name})


def _confusion(found: OutOfFold) -> Any:
    size = len(found.classes)
    table = np.zeros((size, size))
    np.add.at(table, (found.labels, found.probabilities.argmax(axis=1)), 1)
    figure = new_figure(2 + 0.42 * size, 1.5 + 0.4 * size)
    axes = figure.subplots()
    axes.imshow(table / np.maximum(1, table.sum(axis=1, keepdims=True)), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(table), strict=True):
        axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(size), found.classes, rotation=90)
    axes.set_yticks(range(size), found.classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    return figure


def _reliability(found: OutOfFold) -> Any:
    confidence, right = top_label(found.probabilities, found.labels)
    figure = new_figure(4.5, 4.5)
    axes = figure.subplots()
    bins = np.array_split(np.argsort(confidence, kind="stable"), 15)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot([confidence[rows].mean() for rows in bins], [right[rows].mean() for rows in bins], "o-")
    axes.set_xlabel("confidence, mean of each fifteenth")
    axes.set_ylabel("share that was right")
    return figure
