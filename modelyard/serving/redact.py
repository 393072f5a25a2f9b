"""Replaces what must not leave the process with a text: API keys and e-mail addresses."""

from __future__ import annotations

import re
from typing import Final

KEY: Final = "[key]"
EMAIL: Final = "[e-mail]"

# What providers' and our own keys look like; what follows `Bearer` or `api_key=`; JSON Web Tokens; keys of clouds and code hosts.
_KEYS: Final = re.compile(
    r"""
    \bmy-[A-Za-z0-9]{8}-[A-Za-z0-9]{16,}
    | \b(?:sk|pk|rk|gsk|hf|xai|pplx|r8|glpat|xox[abprs])[-_](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}
    | \bgh[opsur]_[A-Za-z0-9]{20,}
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bAIza[A-Za-z0-9_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | (?<=\bBearer\ )[A-Za-z0-9._~+/=-]{8,}
    | (?<=\bBasic\ )[A-Za-z0-9+/=]{8,}
    | (?:(?<=api_key=)|(?<=api-key=)|(?<=apikey=)|(?<=api_key:\ )|(?<=api-key:\ ))["']?[^\s"'&,;]{6,}
    | (?<=://)[^/\s:@]{1,256}:[^/\s@]{1,256}(?=@)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# The lengths are mail's own limits, and keep the search linear.
_EMAILS: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")


def redact(text: str) -> str:
    """Return the text with `[key]` for whatever looks like a key or a password and `[e-mail]` for addresses.

    It knows forms, not meanings: a password without a form, a name or a number stays.
    """
    return _EMAILS.sub(EMAIL, _KEYS.sub(KEY, text)) if text else text
