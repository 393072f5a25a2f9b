"""A task classifier for the cold start: keywords, structure and a token estimate, with nothing learned.

Its scores are also features of the learned classifier, so that a small labelled set starts from what a person knows.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelyard.catalog import estimate_tokens
from modelyard.embedding.tfidf import clip
from modelyard.embedding.tokens import tokens
from modelyard.predictors import softmax
from modelyard.tasks.features import FEATURES, structure
from modelyard.tasks.lexicon import DOMAINS, LEXICON
from modelyard.types import Message, Task

COMPLEXITIES = ("simple", "moderate", "complex")

_PRIOR = {"chat": 0.6}  # small talk is what remains when no subject is named


def _matchers() -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    whole: dict[str, list[int]] = {}
    prefix: dict[str, list[int]] = {}
    for number, domain in enumerate(DOMAINS):
        for word in LEXICON[domain]:
            target = prefix if word.endswith("*") else whole
            target.setdefault(word.rstrip("*"), []).append(number)
    return whole, prefix


_WHOLE, _PREFIX = _matchers()
_PREFIX_LENGTHS = sorted({len(stem) for stem in _PREFIX})


def keyword_scores(text: str) -> npt.NDArray[np.float64]:
    """Return how strongly each of `DOMAINS` is named, shape (18,).

    A word that several domains share counts as its part for each; repeats count as ln(1 + n).
    """
    counts: dict[str, int] = {}
    for token in tokens(clip(text)):
        counts[token] = counts.get(token, 0) + 1
    scores = np.zeros(len(DOMAINS))
    for token, n in counts.items():
        hit = _named_by(token)
        for number in hit:
            scores[number] += np.log1p(n) / len(hit)
    return scores


@lru_cache(maxsize=50_000)
def _named_by(token: str) -> tuple[int, ...]:
    prefixes = (_PREFIX.get(token[:length], []) for length in _PREFIX_LENGTHS if length <= len(token))
    return (*_WHOLE.get(token, []), *itertools.chain.from_iterable(prefixes))


class RuleClassifier:
    """Keywords for the domain, structure for the complexity; its probabilities are stated guesses, not measured ones."""

    version = "rules-1"

    def classify(self, message: Message) -> Task:
        """Return the task of the message's prompt."""
        text = message.prompt
        features: dict[str, float] = dict(zip(FEATURES, structure(text).tolist(), strict=True))
        scores = keyword_scores(text)
        if features["trace"]:
            scores[DOMAINS.index("debugging")] += 2.0
        scores += [_PRIOR.get(domain, 0.0) for domain in DOMAINS]
        domains = softmax(2.0 * scores)
        complexities = softmax(_complexity_scores(features))
        domain, complexity = DOMAINS[int(domains.argmax())], COMPLEXITIES[int(complexities.argmax())]
        return Task(
            domain=domain,
            complexity=complexity,
            domains=dict(zip(DOMAINS, domains.tolist(), strict=True)),
            complexities=dict(zip(COMPLEXITIES, complexities.tolist(), strict=True)),
            tokens=max(1, round(estimate_tokens(len(text)))),
            classifier=self.version,
            reasons=_reasons(text, domain, complexity, features),
        )


def _complexity_scores(features: dict[str, float]) -> npt.NDArray[np.float64]:
    weight = (
        0.9 * (features["log_words"] - np.log1p(25))
        + 0.8 * features["design"]
        + 0.5 * features["constraints"]
        + 0.4 * features["joins"]
        - 0.6 * features["small"]
    )
    # Distance to three anchors on one axis: the ordinal reading of a single score.
    return -((weight - np.array([-0.8, 0.5, 1.8])) ** 2)


def _reasons(text: str, domain: str, complexity: str, features: dict[str, float]) -> tuple[str, ...]:
    number = DOMAINS.index(domain)
    named = [token for token in dict.fromkeys(tokens(clip(text))) if number in _named_by(token)]
    because = f"names {', '.join(named[:4])}" if named else "no keyword of another domain"
    words = round(np.expm1(features["log_words"]))
    return f"{domain}: {because}", f"{complexity}: {words} words" + (", a stack trace" if features["trace"] else "")
