"""Learned functions as plain arrays: what a saved model is made of, with nothing to unpickle and no learning library to import."""

from modelyard.predictors.artifact import Artifact, State, join, part, read_artifact, verify_artifact, write_artifact
from modelyard.predictors.calibration import Platt, sigmoid, sigmoid_row, softmax, softmax_row
from modelyard.predictors.linear import Linear
from modelyard.predictors.trees import Trees

__all__ = [
    "Artifact",
    "Linear",
    "Platt",
    "State",
    "Trees",
    "join",
    "part",
    "read_artifact",
    "sigmoid",
    "sigmoid_row",
    "softmax",
    "softmax_row",
    "verify_artifact",
    "write_artifact",
]
