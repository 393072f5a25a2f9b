from __future__ import annotations

import numpy as np
import pytest

from experiments.evaluate_classifier import judge, trivial_baselines

CLASSES = ("chat", "css", "maths")


def certain(predicted: list[int]) -> np.ndarray:
    return np.eye(3)[predicted]


def test_figures_by_hand() -> None:
    # chat: 2 of 3 predictions right, 2 of 2 found; css: 1 of 1, 1 of 2.
    found = judge(certain([0, 0, 0, 1]), np.array([0, 0, 1, 1]), CLASSES)
    assert found["accuracy"] == 0.75
    chat, css = found["per_class"]["chat"], found["per_class"]["css"]
    assert chat == {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "n": 2}
    assert css == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "n": 2}
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_class_that_does_not_occur_is_not_judged_and_one_that_is_missed_counts_as_nothing() -> None:
    found = judge(certain([2, 0, 0]), np.array([0, 0, 1]), CLASSES)
    assert set(found["per_class"]) == {"chat", "css"}
    assert found["per_class"]["css"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 1}
    # chat: 1 of 2 predictions, 1 of 2 found.
    assert found["macro_f1"] == pytest.approx((0.5 + 0.0) / 2)


def test_calibration_needs_thirty_prompts() -> None:
    assert judge(certain([0] * 29), np.zeros(29, dtype=int), CLASSES)["ece"] is None
    found = judge(np.tile([0.8, 0.1, 0.1], (30, 1)), np.zeros(30, dtype=int), CLASSES)
    assert found["ece"] == pytest.approx(0.2)  # always right, and only 0.8 sure
    assert found["brier_skill"] is None  # one class only


def test_trivial_baselines_by_hand() -> None:
    texts, labels = ["short"] * 30 + ["a very much longer prompt indeed " * 5] * 10, np.array([0] * 30 + [1] * 10)
    found = trivial_baselines(texts, labels)
    # Always the first class: 30 of 40 right; F1 2 · 0.75 / 1.75 and 0.
    assert found["majority"] == {"accuracy": 0.75, "macro_f1": pytest.approx((1.5 / 1.75) / 2)}
    assert found["length_only"] == {"accuracy": 1.0, "macro_f1": 1.0}
