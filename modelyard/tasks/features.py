"""What the shape of a prompt says, whatever its subject: length, code, traces, questions, lists, constraints."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from modelyard.embedding.tfidf import clip

_SENTENCE = re.compile(r"[.!?。！？]+(?:\s|$)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_OPTION = re.compile(r"^\s*\(?[A-J][.)]\s", re.MULTILINE)
_FENCE = re.compile(r"```|~~~")
_CODE_LINE = re.compile(r"^.*(?:[;{}]|=>|\)\s*:|</?\w+[^>]*>|\w\(.*\)).*$", re.MULTILINE)
_TRACE = re.compile(
    r"^\s*at .+\(.*:\d+|Traceback \(most recent|^\s*File \".+\", line \d+|\b\w*(?:Error|Exception)\b[:\s]|\bE[A-Z]{4,}\b|panic:|segfault",
    re.MULTILINE,
)
_CONSTRAINT = re.compile(
    r"\b(?:must|should|need(?:s|ed)? to|have to|without|at least|at most|no more than|only|never|"
    r"cannot|can't|avoid|ensure|require[sd]?|support)\b",
    re.IGNORECASE,
)
_DESIGN = re.compile(
    r"\b(?:architect\w*|design|strategy|trade-?offs?|compare|migrat\w+|scal(?:e|ing|able)|plan|roadmap|end.to.end|multi\w*|"
    r"pros and cons|system|review|production|from scratch|step by step|explain (?:why|how)|robust|comprehensive|detailed|versus|vs)\b",
    re.IGNORECASE,
)
_SMALL = re.compile(
    r"\b(?:what(?:'s| is| does| are)|which|when|who|where|how (?:many|much|old|long|do i)|quick|just|simple|default|meaning|mean|"
    r"syntax|name of|difference|one.?liner|short|tldr)\b",
    re.IGNORECASE,
)
_BUILD = re.compile(
    r"\b(?:write|build|create|implement|make|add|convert|refactor|rewrite|generate|set ?up|help)\b", re.IGNORECASE
)
_WHY = re.compile(
    r"\b(?:why|wrong|broken|fails?|failing|not working|doesn'?t work|doesnt|error|bug|crash\w*|undefined|stuck|weird)\b",
    re.IGNORECASE,
)
_AND = re.compile(r"\b(?:and|plus|also|as well as|then)\b|[,;]", re.IGNORECASE)

FEATURES: tuple[str, ...] = (
    "log_chars", "log_words", "log_lines", "word_length", "sentences", "sentence_words", "questions", "numbers", "digit_share",
    "upper_share", "sign_share", "non_ascii_share", "list_items", "options", "fences", "code_lines", "code_line_share", "trace",
    "constraints", "design", "small", "build", "why", "joins", "distinct_share", "starts_lower", "ends_question", "terse",
)  # fmt: skip


def structure(text: str) -> npt.NDArray[np.float64]:
    """Return the features of a prompt, shape (len(FEATURES),); counts are ln(1 + n), shares 0..1."""
    text = clip(text)
    words = text.split()
    chars, lines = max(1, len(text)), text.count("\n") + 1
    sentences = len(_SENTENCE.findall(text)) or 1
    code_lines = len(_CODE_LINE.findall(text))
    letters = sum(map(str.isalpha, text))
    counts = (len(text), len(words), lines)
    return np.array(
        [
            *(math.log1p(count) for count in counts),
            min(20.0, letters / max(1, len(words))),
            math.log1p(sentences),
            math.log1p(len(words) / sentences),
            math.log1p(text.count("?")),
            math.log1p(len(_NUMBER.findall(text))),
            sum(map(str.isdigit, text)) / chars,
            sum(map(str.isupper, text)) / chars,
            sum(text.count(sign) for sign in "{}[]()<>=;$/\\|+*^_#@&%") / chars,
            sum(ord(char) > 0x7F for char in text) / chars,
            math.log1p(len(_LIST_ITEM.findall(text))),
            math.log1p(len(_OPTION.findall(text))),
            math.log1p(len(_FENCE.findall(text))),
            math.log1p(code_lines),
            code_lines / lines,
            float(bool(_TRACE.search(text))),
            *(math.log1p(len(pattern.findall(text))) for pattern in (_CONSTRAINT, _DESIGN, _SMALL, _BUILD, _WHY, _AND)),
            len({word.lower() for word in words}) / max(1, len(words)),
            float(text[:1].islower()),
            float(text.rstrip().endswith(("?", "？"))),
            float(len(text) < 60),
        ]
    )
