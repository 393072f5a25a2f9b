"""A prompt's features and a classifier's answer, computed in the most straightforward way: what the fast paths are held to."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from modelyard.predictors import State, part
from modelyard.tasks.lexicon import DOMAINS
from modelyard.tasks.matching import _INDEX, weights

Array = np.ndarray[Any, Any]

_TRACE = (
    r"^\s*at .+\(.*:\d+|Traceback \(most recent|^\s*File \".+\", line \d+|\b\w*(?:Error|Exception)\b[:\s]|"
    r"\bE[A-Z]{4,}\b|panic:|segfault"
)
_CONSTRAINT = (
    r"\b(?:must|should|need(?:s|ed)? to|have to|without|at least|at most|no more than|only|never|"
    r"cannot|can't|avoid|ensure|require[sd]?|support)\b"
)
_DESIGN = (
    r"\b(?:architect\w*|design|strategy|trade-?offs?|compare|migrat\w+|scal(?:e|ing|able)|plan|roadmap|end.to.end|multi\w*|"
    r"pros and cons|system|review|production|from scratch|step by step|explain (?:why|how)|robust|comprehensive|detailed|versus|vs)\b"
)
_SMALL = (
    r"\b(?:what(?:'s| is| does| are)|which|when|who|where|how (?:many|much|old|long|do i)|quick|just|simple|default|meaning|mean|"
    r"syntax|name of|difference|one.?liner|short|tldr)\b"
)
_BUILD = r"\b(?:write|build|create|implement|make|add|convert|refactor|rewrite|generate|set ?up|help)\b"
_WHY = (
    r"\b(?:why|wrong|broken|fails?|failing|not working|doesn'?t work|doesnt|error|bug|crash\w*|undefined|stuck|weird)\b"
)
_AND = r"\b(?:and|plus|also|as well as|then)\b|[,;]"


def clip(text: str) -> str:
    return text if len(text) <= 6000 else f"{text[:3000]}\n{text[-3000:]}"


def tokens(text: str) -> list[str]:
    found: list[str] = []
    for word in re.findall(r"[^\W\d_]+|\d+|[^\w\s]", text):
        found.append(word.lower())
        humps = re.split(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", word)
        if len(humps) > 1:
            found.extend(hump.lower() for hump in humps)
    return found


def structure(text: str) -> list[float]:
    text = clip(text)

    def count(pattern: str, flags: int = 0) -> int:
        return len(re.findall(pattern, text, flags))

    words, chars, lines = text.split(), max(1, len(text)), text.count("\n") + 1
    sentences = count(r"[.!?。！？]+(?:\s|$)") or 1
    code_lines = count(r"^.*(?:[;{}]|=>|\)\s*:|</?\w+[^>]*>|\w\(.*\)).*$", re.MULTILINE)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        math.log1p(lines),
        min(20.0, sum(map(str.isalpha, text)) / max(1, len(words))),
        math.log1p(sentences),
        math.log1p(len(words) / sentences),
        math.log1p(text.count("?")),
        math.log1p(count(r"\d+(?:[.,]\d+)*")),
        sum(map(str.isdigit, text)) / chars,
        sum(map(str.isupper, text)) / chars,
        sum(text.count(sign) for sign in "{}[]()<>=;$/\\|+*^_#@&%") / chars,
        sum(ord(char) > 0x7F for char in text) / chars,
        math.log1p(count(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)),
        math.log1p(count(r"^\s*\(?[A-J][.)]\s", re.MULTILINE)),
        math.log1p(count(r"```|~~~")),
        math.log1p(code_lines),
        code_lines / lines,
        float(bool(re.search(_TRACE, text, re.MULTILINE))),
        *(math.log1p(count(cues, re.IGNORECASE)) for cues in (_CONSTRAINT, _DESIGN, _SMALL, _BUILD, _WHY, _AND)),
        len({word.lower() for word in words}) / max(1, len(words)),
        float(text[:1].islower()),
        float(text.rstrip().endswith(("?", "？"))),
        float(len(text) < 60),
    ]


def matches(text: str) -> Counter[str]:
    """Terms of the lexicon, each place and each term tried."""
    found = tokens(clip(text.replace("’", "'")))
    counts = Counter[str]()
    for token in found:
        if re.search(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]", token):
            for term in _INDEX.inside:
                # Occurrences may overlap.
                counts[term] += sum(token.startswith(term, at) for at in range(len(token)))
        else:
            counts[token] += 1
    for at, (first, second) in enumerate(pairwise(found)):
        for parts, is_prefix, name in _INDEX.starts.get(f"{first} {second}", ()):
            here = found[at : at + len(parts)]
            same = here[:-1] == parts[:-1] and len(here) == len(parts)
            counts[name] += same and (here[-1].startswith(parts[-1]) if is_prefix else here[-1] == parts[-1])
        for stem, name in _INDEX.stems.get(first, ()):
            counts[name] += second.startswith(stem)
    return Counter({term: n for term, n in counts.items() if n and weights(term)})


def dense(text: str) -> Array:
    shape, keywords = structure(text), np.zeros(len(DOMAINS))
    for term, n in matches(text).items():
        for domain, weight in weights(term):
            keywords[domain] += weight * math.log1p(n)
    weight = 0.9 * (shape[1] - math.log1p(25)) + 0.8 * shape[19] + 0.5 * shape[18] + 0.4 * shape[23] - 0.6 * shape[20]
    return np.concatenate([shape, keywords, -((weight - np.array([-0.8, 0.5, 1.8])) ** 2)])


def vector(text: str, lsa: State) -> tuple[Array, Array]:
    facts, arrays = lsa
    index = {term: position for position, term in enumerate(facts["vocabulary"])}
    unigrams = tokens(clip(text))
    terms = list(unigrams)
    for size in range(2, facts["words"] + 1):
        terms += [" ".join(unigrams[at : at + size]) for at in range(len(unigrams) - size + 1)]
    if facts["chars"] is not None:
        for word in unigrams:
            padded = f"\x02{word}\x03"
            for size in range(facts["chars"][0], facts["chars"][1] + 1):
                terms += ["\x01" + padded[at : at + size] for at in range(len(padded) - size + 1)]
    counts = sorted(Counter(index[term] for term in terms if term in index).items())
    indices = np.array([position for position, _ in counts], dtype=np.int64)
    values = (1 + np.log(np.array([n for _, n in counts], dtype=np.float32))) * arrays["idf"][indices]
    norm = np.sqrt(values @ values)
    return indices, (values / norm if norm else values).astype(np.float32)


def encode(text: str, encoder: State) -> tuple[tuple[Array, Array], Array, Array]:
    """The sparse vector, the LSA embedding and the standardised dense features of a text."""
    lsa, scaling = part(encoder, "lsa"), part(encoder, "scaling")[1]
    indices, values = vector(text, lsa)
    embedding = values @ lsa[1]["projection"][indices]
    norm = np.sqrt(embedding @ embedding)
    embedding = embedding / norm if norm else embedding
    return (indices, values), embedding, (dense(text) - scaling["mean"]) / scaling["scale"]


def linear(sparse: tuple[Array, Array], features: Array, state: State) -> Array:
    indices, values = sparse
    arrays = state[1]
    return values @ arrays["sparse"][indices] + features @ arrays["dense"] + arrays["bias"]


def trees(x: Array, state: State) -> Array:
    arrays = state[1]
    scores = arrays["base"].astype(np.float64)
    for root, output in zip(arrays["roots"], arrays["output"], strict=True):
        node = int(root)
        while arrays["left"][node] != node:
            goes_left = x[arrays["feature"][node]] <= arrays["threshold"][node]
            node = int(arrays["left" if goes_left else "right"][node])
        scores[output] += arrays["value"][node]
    return scores


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def probabilities(text: str, classifier: State) -> dict[str, Array]:
    """The class probabilities of each head of a saved classifier, words alone."""
    sparse, embedding, features = encode(text, part(classifier, "encoder"))
    heads = part(classifier, "heads")
    found: dict[str, Array] = {}
    for name in heads[0]:
        head = part(heads, name)
        facts = part(head, "head")[0]
        scores: list[tuple[float, Array]] = []
        if "linear" in head[0]:
            scores.append((facts["mix"], linear(sparse, features, part(head, "linear"))))
        if "trees" in head[0]:
            grown = trees(np.concatenate([embedding.astype(np.float64), features]), part(head, "trees"))
            scores.append((1.0 - facts["mix"], grown))
        total = sum(weight for weight, _ in scores)
        found[name] = softmax(sum(weight / total * score for weight, score in scores) / facts["temperature"])
    return found
