"""Lets MLflow load a registered router: `mlflow.pyfunc.load_model(...).predict(frame)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.predictors import read_artifact
from modelyard.routing.model import KIND, RouterModel


class PyfuncRouter:
    """What MLflow calls."""

    def __init__(self, router: RouterModel) -> None:
        self.router = router

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, float]]:
        """Predict for a table with a `prompt` column.

        Returns:
            One record a row: the predicted score, 0..1, of each base model by name.
        """
        scores = self.router.predict([str(prompt) for prompt in model_input["prompt"]])
        return [dict(zip(self.router.models, row, strict=True)) for row in scores.tolist()]


def _load_pyfunc(data_path: str) -> PyfuncRouter:  # pyright: ignore[reportUnusedFunction]  (MLflow calls it by name)
    return PyfuncRouter(RouterModel.from_artifact(read_artifact(Path(data_path), KIND)))
