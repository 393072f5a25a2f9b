"""Which sentences answer a prompt, and how they are put together. Every quote is an exact span of its document."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.retrieval import Index
from modelyard.retrieval.chunks import units
from modelyard.retrieval.lexical import terms
from modelyard.types import Passage

# Share of what counts in the prompt that a sentence must hold to be an answer at all. On the shipped sets 0.15 is silent on a quarter of
# the prompts beside the knowledge base and on 6 % of those about it; 0.25 would be on two thirds and on a quarter.
LEAST_SHARE: Final = 0.15
SECOND: Final = 0.8  # the second sentence is added when it matches nearly as well as the first
LONGEST: Final = 900  # characters of sentences in a composed answer
CODE: Final = 1  # code blocks in a composed answer, where the prompt asks for code
NEAR: Final = 0.5  # a passage is read when it scores at least this share of the best one's
WEAKEST: Final = 0.35  # a sentence is quoted when it scores at least this share of the best one's
REPEATED: Final = 0.6  # a sentence that shares more of its words with one already quoted says nothing new
LEXICAL: Final = 0.5  # words and subject weigh the same in one sentence: it is too short for either alone

# Asking for code or steps: in English and in the commonest words of some other languages.
_ASKS_CODE: Final = re.compile(
    r"\b(?:how|code|example|snippet|write|implement|create|build|make|add|set ?up|configure?|convert|refactor|fix|function|component|hook|"
    r"script|command|syntax|wie|beispiel|schreib\w*|comment|exemple|cómo|como|ejemplo|exemplo|come|esempio|jak|hoe|nasıl)\b|"
    r"как|пример|如何|怎么|怎样|示例|代码|どう|方法|कैसे|كيف|어떻게|```",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A unit of a passage, as a quote with and without its code."""

    rank: int
    quote: Passage
    with_code: Passage
    words: frozenset[str]


def quote_sentences(index: Index, prompt: str) -> tuple[Passage, ...]:
    """Return the one or two sentences of the knowledge base that share most with the prompt's words."""
    best = [sentence for sentence in index.best_sentences(prompt, 2) if sentence.share >= LEAST_SHARE]
    kept = [sentence for sentence in best if sentence.share >= SECOND * best[0].share]
    return tuple(replace(sentence.passage, cited=True) for sentence in kept)


def compose(index: Index, prompt: str, passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the sentences of the passages that answer the prompt, in reading order, best passage's document first."""
    asked = index.sentences.worth(terms(prompt))
    highest = max((passage.score for passage in passages), default=0.0)
    near = [passage for passage in passages if passage.score >= NEAR * highest]
    found = [candidate for rank, passage in enumerate(near) for candidate in _candidates(rank, passage)]
    total = index.sentences.bound(asked)
    if not found or not total:
        return ()
    shares = np.array([sum(asked.get(word, 0.0) for word in candidate.words) / total for candidate in found])
    if float(shares.max()) < LEAST_SHARE:
        return ()
    scores = _scores(index, prompt, found, shares)
    code = CODE if _ASKS_CODE.search(prompt) else 0
    chosen = _choose(found, scores, code)
    return tuple(replace(quote, cited=True) for quote in chosen)


def write(quotes: Sequence[Passage]) -> str:
    """Write quotes as an answer: grouped by document, each group with its number, the titles at the end."""
    numbers = {document: number for number, document in enumerate(dict.fromkeys(quote.document for quote in quotes), 1)}
    titles = {quote.document: quote.title for quote in quotes}
    parts = [
        f"{_join(list(group))} [{numbers[document]}]"
        for document, group in groupby(quotes, key=lambda quote: quote.document)
    ]
    sources = "; ".join(f"[{number}] {titles[document]}" for document, number in numbers.items())
    return "\n\n".join((*parts, f"Sources: {sources}"))


def _candidates(rank: int, passage: Passage) -> Iterator[_Candidate]:
    for unit in units(passage.text):
        whole = _cut(passage, unit.start, unit.end)
        alone = _cut(passage, *unit.quoted)
        yield _Candidate(rank, alone, whole, frozenset(terms(whole.text)))


def _cut(passage: Passage, start: int, end: int) -> Passage:
    return replace(passage, text=passage.text[start:end], start=passage.start + start, end=passage.start + end)


def _scores(
    index: Index, prompt: str, found: Sequence[_Candidate], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how well each candidate answers: its words and subject, in the light of its passage's score."""
    lengths = np.array([len(candidate.words) for candidate in found])
    lexical = shares / np.sqrt(10 + lengths)
    asked = index.embed(prompt)
    cosines = np.array([max(0.0, float(index.embed(candidate.with_code.text) @ asked)) for candidate in found])
    context = np.array([candidate.quote.score for candidate in found])
    own = LEXICAL * _scaled(lexical) + (1 - LEXICAL) * _scaled(cosines)
    return own * (0.5 + 0.5 * _scaled(context))


def _scaled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    highest = float(values.max())
    return values / highest if highest > 0 else values


def _choose(found: Sequence[_Candidate], scores: npt.NDArray[np.float64], code: int) -> list[Passage]:
    """Take the best candidates that say something new, as far as the length goes; return them in reading order."""
    taken: list[tuple[int, Passage, frozenset[str]]] = []
    length, least = 0, WEAKEST * float(scores.max())
    for number in np.argsort(-scores, kind="stable").tolist():
        candidate = found[number]
        if scores[number] < least:
            break
        quote, blocks = candidate.quote, 0
        if candidate.with_code != candidate.quote or candidate.quote.text.startswith(("```", "~~~")):
            blocks = min(code, 1)
            quote = candidate.with_code if blocks else candidate.quote
            if not blocks and quote.text.startswith(("```", "~~~")):
                continue
        said = len(candidate.quote.text)
        fresh = all(_overlap(candidate.words, words) < REPEATED for _, _, words in taken)
        if fresh and (not taken or length + said <= LONGEST):
            taken.append((candidate.rank, quote, candidate.words))
            length, code = length + said, code - blocks
    first = {quote.document: rank for rank, quote, _ in sorted(taken, key=lambda item: -item[0])}
    return sorted((quote for _, quote, _ in taken), key=lambda quote: (first[quote.document], quote.start))


def _overlap(words: frozenset[str], others: frozenset[str]) -> float:
    return len(words & others) / max(1, min(len(words), len(others)))


def _join(quotes: Sequence[Passage]) -> str:
    """Put running sentences on one line, and items, rows and code on lines of their own."""
    text = ""
    for quote in quotes:
        own_line = quote.text.startswith(("- ", "* ", "| ", "```", "~~~")) or text.endswith("```") or text.endswith("|")
        text += ("\n" if own_line else " ") + quote.text if text else quote.text
    return text
