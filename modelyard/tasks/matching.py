"""Finds the lexicon's terms in a text: words, prefixes, phrases, and terms inside the unbroken runs of scripts without spaces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, compress, count

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
    reading = read(text.replace("’", "'"))
    words, inside = reading.tokens, list[str]()
    if not text.isascii():
        runs = {token for token in words if not token.isascii() and _UNSPACED.search(token)}
        inside = [term for token in words if token in runs for term in _inside(token)]
        words = [token for token in words if token not in runs]
    # Of the words of a text few are terms, and fewer start a phrase: they are picked out without a step of Python for the others.
    terms = compress(words, map(WEIGHTS.__getitem__, words))
    return Counter(chain(terms, inside, _phrases(reading)))


def _phrases(reading: Reading) -> Iterator[str]:
    """Yield the phrases of the lexicon in a text, by where they start."""
    starts, stems = _INDEX.starts, _INDEX.stems
    places = {
        *compress(count(), map(starts.__contains__, reading.bigrams)),
        *compress(count(), map(stems.__contains__, reading.tokens[:-1])),
    }
    for at in sorted(places):
        first, bigram = reading.tokens[at], reading.bigrams[at]
        for parts, is_prefix, name in starts.get(bigram, ()):
            if len(parts) == 2 or _follows(reading.tokens, at, parts, is_prefix):
                yield name
        for stem, name in stems.get(first, ()):
            if bigram.startswith(stem, len(first) + 1):
                yield name


def _follows(found: Sequence[str], at: int, parts: list[str], is_prefix: bool) -> bool:
    end = at + len(parts)
    if not is_prefix:
        return found[at:end] == parts
    return end <= len(found) and found[at : end - 1] == parts[:-1] and found[end - 1].startswith(parts[-1])


def _inside(token: str) -> list[str]:
    terms = _INDEX.inside
    return [
        token[at : at + size]
        for size in _INDEX.inside_lengths
        for at in range(len(token) - size + 1)
        if token[at : at + size] in terms
    ]


def weights(term: str) -> tuple[tuple[int, float], ...]:
    """Return the domains a word or phrase speaks for, each with its share of the term's weight."""
    return WEIGHTS[term]


def _weights(term: str) -> tuple[tuple[int, float], ...]:
    if len(term) > LONGEST:
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
