"""Reading a prompt: which kind of task it is and how much a good answer takes."""

from modelyard.tasks.base import Classifier
from modelyard.tasks.features import FEATURES, structure
from modelyard.tasks.learned import Head, LearnedClassifier, SecondLook, SentenceEncoder, open_classifier
from modelyard.tasks.rules import RuleClassifier

__all__ = [
    "FEATURES",
    "Classifier",
    "Head",
    "LearnedClassifier",
    "RuleClassifier",
    "SecondLook",
    "SentenceEncoder",
    "open_classifier",
    "structure",
]
