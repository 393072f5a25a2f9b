"""API keys as text: how they look, how they are made, and what is stored of them.

    my-Qw3rT9zX-<40 random letters and digits>
       prefix   secret (238 bits)

Stored are the prefix and `<tag><argon2id hash>`. The tag is 32 bits of the key's SHA-256: a wrong key is told by it without argon2, so that
a flood of wrong keys cannot buy 30 ms of CPU each, and one with a prefix that exists takes as long as any other. A stolen table gives
away 32 of 238 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from modelyard.errors import Unauthenticated

ALPHABET: Final = string.digits + string.ascii_letters
PREFIX: Final = 8
SECRET: Final = 40
TAG: Final = 8  # hexadecimal digits
NO_TAG: Final = "-" * TAG  # no key has it

_FORMAT: Final = re.compile(rf"my-([0-9A-Za-z]{{{PREFIX}}})-[0-9A-Za-z]{{{SECRET}}}")
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's second choice: 19 MiB


def new_key() -> str:
    """Return a fresh key."""
    return f"my-{_random(PREFIX)}-{_random(SECRET)}"


def prefix_of(key: str) -> str | None:
    """Return a key's prefix, or None for what is no key; only ASCII letters and digits get through."""
    found = _FORMAT.fullmatch(key)
    return found and found.group(1)


def stored_hash(key: str) -> str:
    """Return what is stored to recognise a key by; takes about 30 ms and 19 MiB."""
    return _tag(key) + _HASHER.hash(key)


def looks_like(key: str, stored: str | None) -> bool:
    """Whether a key has the stored tag: the wrong ones have not, but for one in four thousand million; None is no key's hash."""
    return hmac.compare_digest(_tag(key).encode(), (stored or NO_TAG)[:TAG].encode())


def matches(key: str, stored: str) -> bool:
    """Whether a key is the one that was stored; takes about 30 ms and 19 MiB, and leaves other threads running."""
    try:
        return _HASHER.verify(stored[TAG:], key)
    except (Argon2Error, InvalidHashError):
        return False


def bearer(authorization: str | None) -> str:
    """Return the key in an Authorization header.

    Raises:
        Unauthenticated: There is no such header, or its scheme is not Bearer.
    """
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("An API key is needed in the header 'Authorization: Bearer …'.")
    return key.strip()


def _tag(key: str) -> str:
    return hashlib.sha256(b"modelyard tag " + key.encode()).hexdigest()[:TAG]


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
