"""A task classifier for the cold start: keywords, structure and a token estimate, with nothing learned.

Its scores are also features of the learned classifier, so that a small labelled set starts from what a person knows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from modelyard.catalog import estimate_tokens
from modelyard.predictors import softmax
from modelyard.tasks.features import FEATURES, structure
from modelyard.tasks.lexicon import DOMAINS
from modelyard.tasks.matching import matches, weights
from modelyard.types import Message, Task

COMPLEXITIES = ("simple", "moderate", "complex")

_SHARPNESS = 3.0  # one strong term more than the rest: about eight times as likely
_PRIOR = {"chat": 0.35}  # small talk is what remains when no subject is named


def keyword_scores(text: str) -> npt.NDArray[np.float64]:
    """Return how strongly each of `DOMAINS` is named, shape (18,).

    A strong term counts 1, a weak one 0.4, n occurrences as ln(1 + n); a term of k domains gives each of them a k-th part.
    """
    return _scores(matches(text))


def _scores(found: Counter[str]) -> npt.NDArray[np.float64]:
    scores = [0.0] * len(DOMAINS)
    for term, n in found.items():
        repeated = math.log1p(n)
        for number, weight in weights(term):
            scores[number] += weight * repeated
    return np.array(scores)


class RuleClassifier:
    """Keywords for the domain, structure for the complexity; its probabilities are stated guesses, not measured ones."""

    version = "rules-2"

    def classify(self, message: Message) -> Task:
        """Return the task of the message's prompt."""
        text = message.prompt
        features: dict[str, float] = dict(zip(FEATURES, structure(text).tolist(), strict=True))
        found = matches(text)
        scores = _scores(found)
        if features["trace"]:
            scores[DOMAINS.index("debugging")] += 1.0
        scores += [_PRIOR.get(domain, 0.0) for domain in DOMAINS]
        domains = softmax(_SHARPNESS * scores)
        complexities = softmax(complexity_scores(features))
        domain, complexity = DOMAINS[int(domains.argmax())], COMPLEXITIES[int(complexities.argmax())]
        return Task(
            domain=domain,
            complexity=complexity,
            domains=dict(zip(DOMAINS, domains.tolist(), strict=True)),
            complexities=dict(zip(COMPLEXITIES, complexities.tolist(), strict=True)),
            tokens=max(1, round(estimate_tokens(len(text)))),
            classifier=self.version,
            reasons=_reasons(found, domain, complexity, features),
        )


def complexity_scores(features: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Return a score for each of `COMPLEXITIES`, of the features by name."""
    weight = (
        0.9 * (features["log_words"] - np.log1p(25))
        + 0.8 * features["design"]
        + 0.5 * features["constraints"]
        + 0.4 * features["joins"]
        - 0.6 * features["small"]
    )
    # Distance to three anchors on one axis: the ordinal reading of a single score.
    return -((weight - np.array([-0.8, 0.5, 1.8])) ** 2)


def _reasons(found: Counter[str], domain: str, complexity: str, features: dict[str, float]) -> tuple[str, ...]:
    number = DOMAINS.index(domain)
    weight = {term: share for term in found for owner, share in weights(term) if owner == number}
    named = sorted(weight, key=lambda term: -weight[term])
    because = f"names {', '.join(named[:4])}" if named else "no keyword of another domain"
    words = round(np.expm1(features["log_words"]))
    return f"{domain}: {because}", f"{complexity}: {words} words" + (", a stack trace" if features["trace"] else "")
