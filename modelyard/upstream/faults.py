"""Tells kinds of faults apart: what an upstream's status, code and words mean for the next try."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from modelyard.errors import FaultKind

# Calling again with the same request leads to the same end.
LASTING: Final[frozenset[FaultKind]] = frozenset({"auth", "not_found", "rejected", "context_length", "content_policy"})

# Codes and words of OpenAI, Azure, vLLM, llama.cpp, Together, Mistral, Groq and OpenRouter.
_CONTEXT: Final = re.compile(
    r"context[_ ](length|window|size)|maximum context|too many (input )?tokens|(prompt|input|request) (is )?too (long|large)"
    r"|(reduce|exceeds?).{0,40}(length|tokens) of|string_above_max_length|max_model_len",
    re.IGNORECASE,
)
_POLICY: Final = re.compile(
    r"content[_ ](policy|filter|management)|responsible ?ai|moderation|safety (system|filter|policy)|flagged",
    re.IGNORECASE,
)
_NO_MONEY: Final = re.compile(r"insufficient_quota|billing|credits?\b|exceeded your current quota", re.IGNORECASE)

_BY_STATUS: Final[dict[int, FaultKind]] = {
    401: "auth",
    402: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    410: "not_found",
    429: "rate_limit",
}


def classify(status: int, code: str, message: str, retry_after_s: float | None) -> tuple[FaultKind, bool]:
    """Return a refusal's kind, and whether the same call at the same deployment may succeed later.

    Args:
        status: The HTTP status, other than 200.
        code: The error's code or type, where it has one.
        message: The error's own words.
        retry_after_s: What its Retry-After said.
    """
    words = f"{code} {message}"
    if status in {400, 403, 413, 422, 500} and _POLICY.search(words):
        return "content_policy", False
    if status in {400, 413, 422, 500} and _CONTEXT.search(words):
        return "context_length", False
    if status == 429 and _NO_MONEY.search(words):
        return "rate_limit", False
    if status < 400:  # a redirect, which is not followed, or a success without an answer
        return ("not_found" if status >= 300 else "garbage"), False
    if status >= 500:
        return ("rate_limit" if status == 503 and retry_after_s is not None else "server"), True
    kind = _BY_STATUS.get(status, "rejected")
    return kind, kind not in LASTING


def retry_after(value: str, milliseconds: str = "", *, now: datetime | None = None) -> float | None:
    """Read a Retry-After header, seconds or a date, and OpenAI's finer one, in seconds; None where it is neither."""
    if milliseconds.isascii() and milliseconds.isdecimal() and len(milliseconds) <= 9:
        return int(milliseconds) / 1000.0
    text = value.strip()
    try:
        if text[:1].isdecimal() and text.isascii():
            seconds = float(text)
            return seconds if seconds < 1e9 else None
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)
