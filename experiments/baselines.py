"""What a learned router has to beat.

Each baseline predicts scores, shape (n, m), from training outcomes and the test prompts' text alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifiers.routers import RouterParams, fit_first_stage
from modelyard.outcomes import OutcomeMatrix

FloatArray = npt.NDArray[np.float64]


def prompt_length(train: OutcomeMatrix, prompts: Sequence[str]) -> FloatArray:
    """Predict each model's score by a straight line in the logarithm of the prompt's length."""
    x, x_test = (np.log1p([len(text) for text in texts]) for texts in (train.prompts, prompts))
    predicted = np.zeros((len(prompts), len(train.models)))
    for j in range(len(train.models)):
        known = ~np.isnan(train.scores[:, j])
        slope, intercept = (
            np.polyfit(x[known], train.scores[known, j], 1)
            if np.ptp(x[known]) > 0
            else (0.0, train.scores[known, j].mean())
        )
        predicted[:, j] = intercept + slope * x_test
    return predicted


def domain_prior(train: OutcomeMatrix, prompts: Sequence[str], params: RouterParams, *, seed: int = 0) -> FloatArray:
    """Predict each model's mean score in the domains that a text classifier sees in the prompt, weighted by their probability."""
    stage = fit_first_stage(train, params, seed=seed)
    return np.stack([stage.features(text)[: len(train.models)] for text in prompts])
