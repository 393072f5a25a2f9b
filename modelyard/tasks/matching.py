"""Finds the lexicon's terms in a text: words, prefixes, phrases, and terms inside the unbroken runs of scripts without spaces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import compress, count

from modelyard.embedding.remembered import LONGEST, Remembered
from modelyard.embedding.tokens import Reading, read, tokens
from modelyard.tasks.lexicon import DOMAINS, LEXICON

_STRONG, _WEAK = 1.0, 0.4

# Thai, kana, Han: letters that follow each other without spaces, so that a token may be a sentence.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

_Owners = dict[int, float]  # domain -> weight


class _Index:
    def __init__(self) -> None:
        self.words: dict[str, _Owners] = {}
        self.prefixes: dict[str, _Owners] = {}
        self.inside: dict[str, _Owners] = {}
        self.phrases: dict[str, _Owners] = {}
        # First two tokens, joined by a space -> (all tokens, the last one is a prefix, the term as `phrases` names it).
        self.starts: dict[str, list[tuple[list[str], bool, str]]] = {}
        self.stems: dict[str, list[tuple[str, str]]] = {}  # first token -> (prefix of the second, the term)
        for number, domain in enumerate(DOMAINS):
            for weight, terms in ((_STRONG, LEXICON[domain].strong), (_WEAK, LEXICON[domain].weak)):
                for term in terms:
                    owners = self._owners(term)
                    owners[number] = max(weight, owners.get(number, 0.0))
        self.prefix_lengths = sorted({len(stem) for stem in self.prefixes})
        # What a word must be, or start with, to be worth a look: few are.
        self.whole = frozenset({*self.words, *self.phrases, *self.inside})
        self.openings = frozenset(stem[: self.prefix_lengths[0]] for stem in self.prefixes)
        self.inside_lengths = sorted({len(term) for term in self.inside})

    def _owners(self, term: str) -> _Owners:
        stem = term.rstrip("*") if len(term) > 1 else term
        parts, is_prefix = tokens(stem), stem != term
        if len(parts) == 1:
            if _UNSPACED.search(stem):
                return self.inside.setdefault(stem, {})
            return (self.prefixes if is_prefix else self.words).setdefault(parts[0], {})
        name = " ".join(parts) + ("*" if is_prefix else "")
        if name not in self.phrases:
            if is_prefix and len(parts) == 2:
                self.stems.setdefault(parts[0], []).append((parts[1], name))
            else:
                self.starts.setdefault(f"{parts[0]} {parts[1]}", []).append((parts, is_prefix, name))
        return self.phrases.setdefault(name, {})


_INDEX = _Index()


def matches(text: str) -> Counter[str]:
    """Return how often each term of the lexicon occurs; terms of several words under the name that `weights` knows them by."""
    return Counter(terms(text))


def terms(text: str) -> list[str]:
    """Return the terms of the lexicon in a text, repeats included."""
    reading = read(text.replace("’", "'"))
    words: Sequence[str] = reading.tokens
    inside: list[str] = []
    if not text.isascii():
        runs = {token for token in words if not token.isascii() and _UNSPACED.search(token)}
        inside = [term for token in words if token in runs for term in _inside(token)]
        words = [token for token in words if token not in runs]
    # Of the words of a text few are terms, and fewer start a phrase: they are picked out without a step of Python for the others.
    return [*compress(words, map(WEIGHTS.__getitem__, words)), *inside, *_phrases(reading)]


def _phrases(reading: Reading) -> list[str]:
    """Return the phrases of the lexicon in a text, by where they start."""
    words, bigrams, starts, stems = reading.tokens, reading.bigrams, _INDEX.starts, _INDEX.stems
    # The last token starts no phrase.
    places = {
        *compress(count(), map(starts.__contains__, bigrams)),
        *compress(range(len(bigrams)), map(stems.__contains__, words)),
    }
    found: list[str] = []
    for at in sorted(places):
        for parts, is_prefix, name in starts.get(bigrams[at], ()):
            if len(parts) == 2 or _follows(words, at, parts, is_prefix):
                found.append(name)
        for stem, name in stems.get(words[at], ()):
            if words[at + 1].startswith(stem):
                found.append(name)
    return found


def _follows(found: Sequence[str], at: int, parts: list[str], is_prefix: bool) -> bool:
    end = at + len(parts)
    if not is_prefix:
        return found[at:end] == parts
    return end <= len(found) and found[at : end - 1] == parts[:-1] and found[end - 1].startswith(parts[-1])


def _inside(token: str) -> list[str]:
    inside = _INDEX.inside
    return [
        token[at : at + size]
        for size in _INDEX.inside_lengths
        for at in range(len(token) - size + 1)
        if token[at : at + size] in inside
    ]


def weights(term: str) -> tuple[tuple[int, float], ...]:
    """Return the domains a word or phrase speaks for, each with its share of the term's weight."""
    return WEIGHTS[term]


def _weights(term: str) -> tuple[tuple[int, float], ...]:
    if len(term) > LONGEST or not (term in _INDEX.whole or term[: _INDEX.prefix_lengths[0]] in _INDEX.openings):
        return ()
    owners: _Owners = {}
    named = [_INDEX.words.get(term), _INDEX.phrases.get(term), _INDEX.inside.get(term)]
    if " " not in term:
        named += [_INDEX.prefixes.get(term[:size]) for size in _INDEX.prefix_lengths if size <= len(term)]
    for some in named:
        for number, weight in (some or {}).items():
            owners[number] = max(weight, owners.get(number, 0.0))
    return tuple((number, weight / len(owners)) for number, weight in sorted(owners.items()))


WEIGHTS = Remembered(_weights)  # what `weights` says, as a dictionary
