"""A router of three models whose predicted scores are known, and a message to route."""

from __future__ import annotations

import numpy as np

from classifiers.encoding import EncoderParams, fit_encoder
from modelyard.catalog import BaseModel, Price
from modelyard.predictors import Linear, Platt
from modelyard.predictors.calibration import logit
from modelyard.routing.model import FirstStage, Memory, RouterModel
from modelyard.types import Message, Task

PROMPTS = [
    "centre a div with flexbox",
    "centre a grid in css",
    "why does fetch fail",
    "fetch json with fetch",
    "why css",
]
QUALITIES = {"cheap": 0.3, "middle": 0.6, "dear": 0.9}
MODELS = tuple(
    BaseModel(name, "local", Price(request=price), method="sentence")
    for name, price in (("cheap", 0.001), ("middle", 0.01), ("dear", 0.1))
)
STRANGER = BaseModel("stranger", "local", Price(), method="sentence")
MESSAGE = Message.of("How do I centre a div?")


def task(complexity: str = "moderate") -> Task:
    return Task("css", complexity, {"css": 1.0}, {complexity: 1.0}, 6, "made-up")


def router(qualities: dict[str, float] = QUALITIES, *, cost_weight: float = 0.0) -> RouterModel:
    """Predicts the given score of each model, whatever the prompt."""
    m = len(qualities)
    encoder = fit_encoder(PROMPTS, EncoderParams(min_df=1, lsa_dimensions=3))
    terms, features = len(encoder.lsa.tfidf), len(encoder.mean)
    memory = Memory(encoder.lsa.embed(PROMPTS), np.full((len(PROMPTS), m), np.nan, dtype=np.float32))

    def flat(columns: int) -> Linear:
        return Linear(np.zeros((terms, columns), dtype=np.float32), np.zeros((features, columns)), np.zeros(columns))

    return RouterModel(
        models=tuple(qualities),
        first=FirstStage(encoder, flat(2), np.full((2, m), 0.5), flat(m), memory),
        means=np.full(m, 0.5),
        output_tokens=np.full(m, 100.0),
        trees=None,
        calibration=Platt(np.zeros(m), logit(np.array(list(qualities.values())))),
        spread=0.2,
        cost_weight=cost_weight,
    )
