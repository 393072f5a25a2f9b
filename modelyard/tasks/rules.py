"""A task classifier for the cold start: keywords, structure and a token estimate, with nothing learned.

Its scores are also features of the learned classifier, so that a small labelled set starts from what a person knows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from modelyard.predictors import softmax
from modelyard.tasks.features import Structure, describe
from modelyard.tasks.length import message_tokens
from modelyard.tasks.lexicon import DOMAINS
from modelyard.tasks.matching import WEIGHTS, matches, terms, weights
from modelyard.tasks.reading import read
from modelyard.types import Message, Task

COMPLEXITIES = ("simple", "moderate", "complex")

_SHARPNESS = 3.0  # one strong term more than the rest: about eight times as likely
_PRIOR = np.array(
    [0.35 if domain == "chat" else 0.0 for domain in DOMAINS]
)  # small talk is what remains when no subject is named
_ANCHORS = (-0.8, 0.5, 1.8)  # on one axis: the ordinal reading of a single score


def keyword_scores(text: str) -> list[float]:
    """Return how strongly each of `DOMAINS` is named, in their order.

    A strong term counts 1, a weak one 0.4, n occurrences as ln(1 + n); a term of k domains gives each of them a k-th part.
    """
    counts: dict[str, int] = {}
    for term in terms(text):
        counts[term] = counts.get(term, 0) + 1
    return _scores(counts)


def _scores(found: Mapping[str, int]) -> list[float]:
    scores = [0.0] * len(DOMAINS)
    for owners, n in zip(map(WEIGHTS.__getitem__, found), found.values(), strict=True):
        for number, weight in owners:
            scores[number] += weight * math.log1p(n)
    return scores


class RuleClassifier:
    """Keywords for the domain, structure for the complexity; its probabilities are stated guesses, not measured ones."""

    version = "rules-2"

    def classify(self, message: Message) -> Task:
        """Return the task of what is read of the message."""
        text = read(message).subject
        shape, found = describe(text), matches(text)
        scores = np.array(_scores(found)) + _PRIOR
        scores[DOMAINS.index("debugging")] += shape.trace
        domains = softmax(_SHARPNESS * scores)
        complexities = softmax(np.array(complexity_scores(shape)))
        domain, complexity = DOMAINS[int(domains.argmax())], COMPLEXITIES[int(complexities.argmax())]
        return Task(
            domain=domain,
            complexity=complexity,
            domains=dict(zip(DOMAINS, domains.tolist(), strict=True)),
            complexities=dict(zip(COMPLEXITIES, complexities.tolist(), strict=True)),
            tokens=message_tokens(message),
            classifier=self.version,
            reasons=_reasons(found, domain, complexity, shape),
        )


def complexity_scores(shape: Structure) -> list[float]:
    """Return a score for each of `COMPLEXITIES`, in their order."""
    weight = (
        0.9 * (shape.log_words - math.log1p(25))
        + 0.8 * shape.design
        + 0.5 * shape.constraints
        + 0.4 * shape.joins
        - 0.6 * shape.small
    )
    return [-((weight - anchor) ** 2) for anchor in _ANCHORS]


def _reasons(found: Counter[str], domain: str, complexity: str, shape: Structure) -> tuple[str, ...]:
    number = DOMAINS.index(domain)
    weight = {term: share for term in found for owner, share in weights(term) if owner == number}
    named = sorted(weight, key=lambda term: -weight[term])
    because = f"names {', '.join(named[:4])}" if named else "no keyword of another domain"
    words = round(math.expm1(shape.log_words))
    return f"{domain}: {because}", f"{complexity}: {words} words" + (", a stack trace" if shape.trace else "")
