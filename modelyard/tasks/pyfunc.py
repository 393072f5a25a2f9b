"""Lets MLflow load a registered task classifier: `mlflow.pyfunc.load_model(...).predict(frame)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.predictors import read_artifact
from modelyard.settings import current
from modelyard.tasks.learned import KIND, LearnedClassifier, open_classifier
from modelyard.types import Message


class PyfuncClassifier:
    """What MLflow calls."""

    def __init__(self, classifier: LearnedClassifier) -> None:
        self.classifier = classifier

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Classify a table with a `prompt` column.

        Returns:
            One record a row: `domain`, `complexity`, `confidence`.
        """
        tasks = [self.classifier.classify(Message.of(str(prompt))) for prompt in model_input["prompt"]]
        return [{"domain": task.domain, "complexity": task.complexity, "confidence": task.confidence} for task in tasks]


def _load_pyfunc(data_path: str) -> PyfuncClassifier:  # pyright: ignore[reportUnusedFunction]  (MLflow calls it by name)
    return PyfuncClassifier(open_classifier(read_artifact(Path(data_path), KIND), "pyfunc", current()))
