"""Where a base model is reached, and sentences about what went wrong there that give no secret away."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from modelyard.errors import UpstreamError

LONGEST_DETAIL: Final = 200  # characters of an upstream's own words that are passed on
RETRYABLE: Final = frozenset({429})  # and every 5xx


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one OpenAI-compatible endpoint.

    Attributes:
        name: The catalogue's name, for sentences.
        base_url: Up to and including `/v1`.
        model: The model's name at the endpoint.
        api_key_env: Name of the environment variable that holds the key; None where none is needed.
    """

    name: str
    base_url: str
    model: str
    api_key_env: str | None = None

    @property
    def url(self) -> str:
        """Where chat completions are posted."""
        return self.base_url.rstrip("/") + "/chat/completions"

    def headers(self) -> dict[str, str]:
        """Return the authorization header, read from the environment at each call so that a rotated key is used.

        Raises:
            UpstreamError: The variable is not set, or its value cannot stand in a header.
        """
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise self.error(f"needs a key: the environment variable {self.api_key_env} is not set")
        if not (key.isascii() and key.isprintable()):
            raise self.error(f"needs a key of printable ASCII in the environment variable {self.api_key_env}")
        return {"Authorization": f"Bearer {key}"}

    def error(self, what: str, *, status: int | None = None, retryable: bool = False) -> UpstreamError:
        """Return an error: one sentence that names the model and its host, and not the key."""
        sentence = f"The model {self.name!r} at {urlsplit(self.base_url).hostname} {self._redact(what)}."
        return UpstreamError(sentence, status=status, retryable=retryable)

    def refused(self, status: int, detail: str) -> UpstreamError:
        """Return the error for an HTTP status other than 200, with the start of what the endpoint said."""
        said = self._redact(" ".join(detail.split()))[:LONGEST_DETAIL].rstrip(". ")
        what = f"answered with status {status}" + (f": {said}" if said else "")
        return self.error(what, status=status, retryable=status in RETRYABLE or status >= 500)

    def _redact(self, text: str) -> str:
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return text.replace(key, "***") if key else text
