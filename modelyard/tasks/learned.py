"""A learned task classifier: one head a question, over the same text vector, structure and keyword scores.

Notation:
    V, D  number of text terms and of dense features; k  length of the LSA embedding
    C     classes of a head
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from modelyard.embedding import Lsa, SparseVector
from modelyard.embedding.minilm import load_minilm
from modelyard.embedding.tokens import clip
from modelyard.errors import CorruptModel
from modelyard.predictors import Artifact, Linear, State, Trees, join, part, softmax
from modelyard.settings import Settings
from modelyard.tasks.features import FEATURES, describe
from modelyard.tasks.length import message_tokens
from modelyard.tasks.look import Look
from modelyard.tasks.reading import read
from modelyard.tasks.rules import COMPLEXITIES, DOMAINS, RuleClassifier, complexity_scores, keyword_scores
from modelyard.types import Message, Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FloatArray = npt.NDArray[np.float64]

KIND = "classifier"


def dense_features(text: str, *, of_table: bool = False) -> FloatArray:
    """Return structure, keyword scores and the rules' complexity scores, shape (D,); do not write into it, it is shared."""
    return (_of_table if of_table else _of_request)(clip(text))


def _dense_features(text: str) -> FloatArray:
    shape = describe(text)
    return np.array([*shape, *keyword_scores(text), *complexity_scores(shape)])


# Classifier and router ask about the same text within one request; learning asks about every text of a table again and again.
_of_request = lru_cache(maxsize=64)(_dense_features)
_of_table = lru_cache(maxsize=8_192)(_dense_features)

DENSE_NAMES = (
    *FEATURES,
    *(f"keywords_{domain}" for domain in DOMAINS),
    *(f"rules_{complexity}" for complexity in COMPLEXITIES),
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """n texts as a learned classifier sees them: sparse (n, V), LSA (n, k), standardised dense (n, D), and sentence embeddings (n, E)."""

    sparse: csr_matrix
    lsa: npt.NDArray[np.float32]
    dense: FloatArray
    semantic: npt.NDArray[np.float32] | None = None

    @property
    def terms(self) -> int:
        """Number of text terms, V."""
        shape: Any = self.sparse.shape
        return int(shape[1])


class Encoder:
    """Text to features; `mean` and `scale`, shape (D,), standardise the dense ones."""

    def __init__(self, lsa: Lsa, mean: FloatArray, scale: FloatArray) -> None:
        self.lsa, self.mean, self.scale = lsa, mean, scale

    def one(self, text: str) -> tuple[SparseVector, npt.NDArray[np.float32], FloatArray]:
        """Return the sparse vector, the LSA embedding (k,) and the dense features (D,) of one text."""
        vector = self.lsa.tfidf.vector(text)
        return vector, self.lsa.project(vector), (dense_features(text) - self.mean) / self.scale

    def many(self, texts: Sequence[str]) -> Encoded:
        """Encode many texts."""
        vectors = [self.lsa.tfidf.vector(text) for text in texts]
        dense = (np.stack([dense_features(text, of_table=True) for text in texts]) - self.mean) / self.scale
        return Encoded(self.lsa.tfidf.stack(vectors), self.lsa.project_many(vectors), dense)

    def state(self) -> State:
        """Return what rebuilds this object."""
        return join({"lsa": self.lsa.state(), "scaling": ({}, {"mean": self.mean, "scale": self.scale})})

    @classmethod
    def from_state(cls, state: State) -> Encoder:
        """Rebuild from `state`."""
        scaling = part(state, "scaling")[1]
        return cls(Lsa.from_state(*part(state, "lsa")), scaling["mean"], scaling["scale"])


@dataclass(frozen=True, slots=True)
class Head:
    """One question's answer: softmax((mix · linear + (1 − mix) · trees) / temperature).

    Either model may be absent; then the other one counts alone. `semantic`, shape (E, C), adds the sentence embedding to the linear one.
    """

    classes: tuple[str, ...]
    linear: Linear | None
    trees: Trees | None
    mix: float
    temperature: float
    semantic: npt.NDArray[np.float32] | None = None

    def one(
        self,
        vector: SparseVector,
        lsa: npt.NDArray[np.float32],
        dense: FloatArray,
        semantic: npt.NDArray[np.float32] | None = None,
    ) -> FloatArray:
        """Return the class probabilities of one text, shape (C,)."""
        parts: list[tuple[float, FloatArray]] = []
        if self.linear is not None:
            scores = self.linear.one(vector, dense)
            if self.semantic is not None and semantic is not None:
                scores = scores + semantic @ self.semantic
            parts.append((self.mix, scores))
        if self.trees is not None:
            parts.append((1.0 - self.mix, self.trees.one(np.concatenate([lsa, dense], dtype=np.float64))))
        return softmax(_blend(parts) / self.temperature)

    def many(self, encoded: Encoded) -> FloatArray:
        """Return the class probabilities of many texts, shape (n, C)."""
        return softmax(self.logits(encoded) / self.temperature)

    def logits(self, encoded: Encoded) -> FloatArray:
        """Return the scores before the temperature, shape (n, C)."""
        parts: list[tuple[float, FloatArray]] = []
        if self.linear is not None:
            scores = self.linear.many(encoded.sparse, encoded.dense)
            if self.semantic is not None and encoded.semantic is not None:
                scores = scores + encoded.semantic @ self.semantic
            parts.append((self.mix, scores))
        if self.trees is not None:
            parts.append((1.0 - self.mix, self.trees(np.hstack([encoded.lsa.astype(np.float64), encoded.dense]))))
        return _blend(parts)

    def state(self) -> State:
        """Return what rebuilds this object."""
        facts = {"classes": list(self.classes), "mix": self.mix, "temperature": self.temperature}
        states: dict[str, State] = {"head": (facts, {})}
        if self.linear is not None:
            states["linear"] = self.linear.state()
        if self.trees is not None:
            states["trees"] = self.trees.state()
        if self.semantic is not None:
            states["semantic"] = ({}, {"weights": self.semantic})
        return join(states)

    @classmethod
    def from_state(cls, state: State) -> Head:
        """Rebuild from `state`."""
        facts = part(state, "head")[0]
        linear = Linear.from_state(*part(state, "linear")) if "linear" in state[0] else None
        trees = Trees.from_state(*part(state, "trees")) if "trees" in state[0] else None
        semantic = part(state, "semantic")[1]["weights"] if "semantic" in state[0] else None
        return cls(tuple(facts["classes"]), linear, trees, facts["mix"], facts["temperature"], semantic)


class SentenceEncoder(Protocol):
    """Turns sentences into vectors of which those of like meaning are near each other."""

    @property
    def fingerprint(self) -> str:
        """Names the encoder and its weights."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, E)."""
        ...


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Heads that read sentence embeddings, too, asked where words alone leave the first head unsure.

    Attributes:
        heads: By name; the same questions as the first look's.
        below: The first head's largest probability under which they are asked.
        encoder: Fingerprint of the sentence encoder that they were trained with.
    """

    heads: Mapping[str, Head]
    below: float
    encoder: str


class LearnedClassifier:
    """Task classifier with learned heads; a question without a head of its own is answered by the rules.

    Args:
        encoder: Text to features.
        heads: One a question; they read words alone.
        version: Name and registry version.
        second: Heads that read sentence embeddings, where it was trained with some.
        sentences: The sentence encoder of `second`; without it words alone decide.
    """

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, Head],
        version: str = "unregistered",
        *,
        second: SecondLook | None = None,
        sentences: SentenceEncoder | None = None,
    ) -> None:
        self.encoder, self.heads, self._version, self.second = encoder, dict(heads), version, second
        usable = second is not None and sentences is not None and sentences.fingerprint == second.encoder
        self._sentences = sentences if usable else None
        self._look, self._second_look = Look(self.heads), Look(second.heads if second is not None else {})
        self._rules = RuleClassifier()

    @property
    def version(self) -> str:
        """Name and registry version."""
        return self._version

    @property
    def reads_words_alone(self) -> bool:
        """Whether it was trained with a sentence encoder that it does not have here."""
        return self.second is not None and self._sentences is None

    def probabilities(self, text: str) -> dict[str, dict[str, float]]:
        """Return, a head, the probability of each class."""
        encoded = self.encoder.one(text)
        found = self._look(*encoded)
        if self.second is not None and self._sentences is not None and max(found[self._first]) < self.second.below:
            found = self._second_look(*encoded, self._sentences.embed([text])[0])
        return {name: dict(zip(self.heads[name].classes, shares, strict=True)) for name, shares in found.items()}

    def many(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Return, a head, the class probabilities of many texts, shape (n, C)."""
        encoded = self.encoder.many(texts)
        found = {name: head.many(encoded) for name, head in self.heads.items()}
        if self.second is None or self._sentences is None:
            return found
        unsure = found[self._first].max(axis=1) < self.second.below
        if unsure.any():
            rows: list[int] = np.flatnonzero(unsure).tolist()
            asked = [texts[row] for row in rows]
            again = replace(self.encoder.many(asked), semantic=self._sentences.embed(asked))
            for name, head in self.second.heads.items():
                found[name][rows] = head.many(again)
        return found

    @property
    def _first(self) -> str:
        return "domain" if "domain" in self.heads else next(iter(self.heads))

    def classify(self, message: Message) -> Task:
        """Return the task of what is read of the message."""
        text = read(message).subject
        learned = self.probabilities(text)
        if {"domain", "complexity"} <= set(learned):
            domains, complexities = learned["domain"], learned["complexity"]
        else:
            rules = self._rules.classify(message)
            domains = learned.get("domain", dict(rules.domains))
            complexities = learned.get("complexity", dict(rules.complexities))
        domain, complexity = max(domains, key=domains.__getitem__), max(complexities, key=complexities.__getitem__)
        return Task(
            domain=domain,
            complexity=complexity,
            domains=domains,
            complexities=complexities,
            tokens=message_tokens(message),
            classifier=self.version,
            reasons=(
                f"{domain} with probability {domains[domain]:.2f}",
                f"{complexity} with probability {complexities[complexity]:.2f}",
            ),
        )

    def state(self) -> State:
        """Return what rebuilds this object."""
        states = {"encoder": self.encoder.state(), "heads": join({name: h.state() for name, h in self.heads.items()})}
        if self.second is not None:
            again = join({name: head.state() for name, head in self.second.heads.items()})
            about: State = ({"below": self.second.below, "encoder": self.second.encoder}, {})
            states["second"] = join({"heads": again, "about": about})
        return join(states)

    @classmethod
    def from_artifact(
        cls, artifact: Artifact, version: str, sentences: SentenceEncoder | None = None
    ) -> LearnedClassifier:
        """Rebuild from a verified artifact.

        Raises:
            CorruptModel: The artifact's content does not have the layout of this release.
        """
        try:
            state = (artifact.facts, artifact.arrays)
            second = _second(part(state, "second")) if "second" in state[0] else None
            encoder = Encoder.from_state(part(state, "encoder"))
            return cls(encoder, _heads(part(state, "heads")), version, second=second, sentences=sentences)
        except (KeyError, TypeError, IndexError) as error:
            raise CorruptModel(f"The saved classifier {version} lacks a part: {error}.") from None


def open_classifier(artifact: Artifact, version: str, settings: Settings) -> LearnedClassifier:
    """Rebuild a classifier with the sentence encoder that it asks for, where that is installed.

    Raises:
        CorruptModel: The artifact's content does not have the layout of this release, or the sentence encoder is damaged.
    """
    # The sentence encoder takes a third of a second to load: not for classifiers that would never ask it.
    sentences = load_minilm(settings) if "second" in artifact.facts else None
    return LearnedClassifier.from_artifact(artifact, version, sentences)


def _heads(state: State) -> dict[str, Head]:
    return {name: Head.from_state(part(state, name)) for name in state[0]}


def _second(state: State) -> SecondLook:
    about = part(state, "about")[0]
    return SecondLook(_heads(part(state, "heads")), about["below"], about["encoder"])


def _blend(parts: Sequence[tuple[float, FloatArray]]) -> FloatArray:
    if len(parts) == 1:
        return parts[0][1]
    (weight, scores), (other_weight, other_scores) = parts
    return weight * scores + other_weight * other_scores
