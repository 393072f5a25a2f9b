"""Replaces what must not leave the process with a text: API keys and e-mail addresses."""

from __future__ import annotations

import re
from typing import Final

KEY: Final = "[key]"
EMAIL: Final = "[e-mail]"
OVERLAP: Final = 512  # characters behind the cut that are read along: a key that begins before it is known by them

# What providers' and our own keys look like; what follows `Bearer` or `api_key=`; JSON Web Tokens; keys of clouds and code hosts; passwords
# in addresses. A key begins where a run of its characters does: with one place to begin a run, the search stays linear.
_KEYS: Final = re.compile(
    r"""
    (?<![\w-])(?:
        my-[A-Za-z0-9]{8}-[A-Za-z0-9]{16,}
        | (?:sk|pk|rk|gsk|hf|xai|pplx|r8|glpat|xox[abprs])[-_](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}
        | gh[opsur]_[A-Za-z0-9]{20,}
        | github_pat_[A-Za-z0-9_]{20,}
        | (?:AKIA|ASIA)[A-Z0-9]{16}\b
        | AIza[A-Za-z0-9_-]{30,}
        | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    )
    | (?<=\bBearer\ )[A-Za-z0-9._~+/=-]{8,}
    | (?<=\bBasic\ )[A-Za-z0-9+/=]{8,}
    | (?:(?<=api_key=)|(?<=api-key=)|(?<=apikey=)|(?<=api_key:\ )|(?<=api-key:\ ))["']?[^\s"'&,;]{6,}
    | (?<=://)[^/\s:@]{1,256}:[^/\s@]{1,256}(?=@)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# The lengths are mail's own limits, and keep the search linear.
_EMAILS: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")


def redact(text: str, longest: int | None = None) -> str:
    """Return the text with `[key]` for whatever looks like a key or a password and `[e-mail]` for addresses.

    It knows forms, not meanings: a password without a form, a name or a number stays.

    Args:
        text: Any text.
        longest: Most characters that are returned; a key is not made shorter than its form by that.
    """
    if longest is None:
        return _EMAILS.sub(EMAIL, _KEYS.sub(KEY, text))
    return redact(text[: longest + OVERLAP])[:longest]
