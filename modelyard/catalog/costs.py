"""What recorded answers cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelyard.catalog.records import BaseModel, Price
from modelyard.outcomes.matrix import FloatArray, OutcomeMatrix
from modelyard.types import estimate_tokens

DEFAULT_OUTPUT_TOKENS = 250  # where neither the table nor the catalogue knows how long a model's answers are


def realised_costs(matrix: OutcomeMatrix, prices: Mapping[str, Price], known: Mapping[str, BaseModel]) -> FloatArray:
    """Return what each answer cost in USD, shape (n, m): as recorded, else list price × tokens.

    Tokens are characters / 4 where they were not recorded; an answer of unknown length counts as the model's mean length in this table,
    else as the catalogue's typical length.
    """
    costs = matrix.costs_usd.copy()
    prompt_tokens = matrix.prompt_tokens
    for j, name in enumerate(matrix.models):
        output = estimate_tokens(1) * matrix.output_chars[:, j]
        typical = known[name].output_tokens if name in known else DEFAULT_OUTPUT_TOKENS
        fill = float(np.nanmean(output)) if np.isfinite(output).any() else float(typical)
        price = prices[name]
        listed = (
            price.request
            + (price.input * prompt_tokens + price.output * np.where(np.isnan(output), fill, output)) / 1e6
        )
        # A table that prices some of a model's answers and not others would mix two scales: then list prices serve for all.
        costs[:, j] = costs[:, j] if np.isfinite(costs[:, j]).all() else listed
    return costs
