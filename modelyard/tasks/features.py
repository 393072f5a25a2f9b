"""What the shape of a prompt says, whatever its subject: length, code, traces, questions, lists, constraints."""

from __future__ import annotations

import math
import re
import string
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.embedding.remembered import Remembered
from modelyard.embedding.tokens import clip, read
from modelyard.tasks.cues import phrase_cues, word_cues

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_OPTION = re.compile(r"^\s*\(?[A-J][.)]\s", re.MULTILINE)
_CODE_LINE = re.compile(r"^.*(?:[;{}]|=>|\)\s*:|</?\w+[^>]*>|\w\(.*\)).*$", re.MULTILINE)
_STOPS: Final = tuple(".!?。！？")
_CODE_SIGNS: Final = (";", "{", "}", ">", ")")  # a line of code holds one of them

# What a stack trace holds -> the whole pattern: most texts hold none of the former, and finding that out takes next to no time.
_TRACES: Final = tuple(
    (needle, re.compile(pattern, re.MULTILINE))
    for needle, pattern in {
        "(": r"^\s*at .+\(.*:\d+",
        "Traceback (most recent": r"Traceback \(most recent",
        'File "': r"^\s*File \".+\", line \d+",
        "Error": r"Error[:\s]",
        "Exception": r"Exception[:\s]",
        "E": r"E(?<!\wE)[A-Z]{4,}\b",  # `\bE…`, but what starts with a letter is searched for faster
        "panic:": r"panic:",
        "segfault": r"segfault",
    }.items()
)

# ASCII characters by kind: lower case letters, upper case letters, digits, signs of code; the others stay themselves.
_KINDS: Final = bytes.maketrans(
    (string.ascii_lowercase + string.ascii_uppercase + string.digits + "{}[]()<>=;$/\\|+*^_#@&%").encode(),
    ("l" * 26 + "u" * 26 + "d" * 10 + "s" * 22).encode(),
)


class Structure(NamedTuple):
    """The features of a prompt; counts are ln(1 + n), shares 0..1."""

    log_chars: float
    log_words: float
    log_lines: float
    word_length: float
    sentences: float
    sentence_words: float
    questions: float
    numbers: float
    digit_share: float
    upper_share: float
    sign_share: float
    non_ascii_share: float
    list_items: float
    options: float
    fences: float
    code_lines: float
    code_line_share: float
    trace: float
    constraints: float
    design: float
    small: float
    build: float
    why: float
    joins: float
    distinct_share: float
    starts_lower: float
    ends_question: float
    terse: float


FEATURES: tuple[str, ...] = Structure._fields


class _Word(NamedTuple):
    lower: str
    is_stop: bool  # the last of a sentence
    cues: tuple[str, ...]


_WORDS = Remembered(lambda word: _Word(word.lower(), word.endswith(_STOPS), word_cues(word)))


def structure(text: str) -> npt.NDArray[np.float64]:
    """Return the features of a prompt as an array, shape (len(FEATURES),)."""
    return np.array(describe(text))


def describe(text: str) -> Structure:
    """Return the features of a prompt."""
    words = [*map(_WORDS.__getitem__, read(text).words)]
    text = clip(text)
    log1p = math.log1p
    chars, lines = max(1, len(text)), text.count("\n") + 1
    letters, digits, uppers, signs, foreign = _characters(text)
    lower, stops, kinds = zip(*words, strict=True) if words else ((), (), ())
    sentences = sum(stops) or 1
    code_lines = len(_CODE_LINE.findall(text)) if signs and any(sign in text for sign in _CODE_SIGNS) else 0
    cues = [*phrase_cues(text), *chain(*kinds)]
    return Structure(
        log_chars=log1p(len(text)),
        log_words=log1p(len(words)),
        log_lines=log1p(lines),
        word_length=min(20.0, letters / max(1, len(words))),
        sentences=log1p(sentences),
        sentence_words=log1p(len(words) / sentences),
        questions=log1p(text.count("?")),
        numbers=log1p(len(_NUMBER.findall(text))) if digits else 0.0,
        digit_share=digits / chars,
        upper_share=uppers / chars,
        sign_share=signs / chars,
        non_ascii_share=foreign / chars,
        list_items=log1p(_count_starts(_LIST_ITEM, text, lines)),
        options=log1p(_count_starts(_OPTION, text, lines)),
        fences=log1p(text.count("```") + text.count("~~~")),
        code_lines=log1p(code_lines),
        code_line_share=code_lines / lines,
        trace=float(any(pattern.search(text) for needle, pattern in _TRACES if needle in text)),
        constraints=log1p(cues.count("constraints")),
        design=log1p(cues.count("design")),
        small=log1p(cues.count("small")),
        build=log1p(cues.count("build")),
        why=log1p(cues.count("why")),
        joins=log1p(cues.count("joins")),
        distinct_share=len(set(lower)) / max(1, len(words)),
        starts_lower=float(text[:1].islower()),
        ends_question=float(text.rstrip().endswith(("?", "？"))),
        terse=float(len(text) < 60),
    )


def _count_starts(pattern: re.Pattern[str], text: str, lines: int) -> int:
    """Return how many lines start with a pattern, no small letter; it need not be searched for in a single line."""
    if lines > 1:
        return len(pattern.findall(text))
    return int(not text[:1].islower() and pattern.match(text) is not None)


def _characters(text: str) -> tuple[int, int, int, int, int]:
    """Count letters, digits, upper-case letters, signs of code, and characters beyond ASCII (which may be of the first three, too)."""
    plain = text.encode("ascii", "ignore")
    foreign = "" if len(plain) == len(text) else [char for char in text if not char.isascii()]
    kinds = plain.translate(_KINDS)
    uppers = kinds.count(b"u")
    return (
        kinds.count(b"l") + uppers + sum(map(str.isalpha, foreign)),
        kinds.count(b"d") + sum(map(str.isdigit, foreign)),
        uppers + sum(map(str.isupper, foreign)),
        kinds.count(b"s"),
        len(foreign),
    )
