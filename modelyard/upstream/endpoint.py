"""Where a base model is reached, and sentences about what went wrong there that give no secret away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from modelyard.errors import FaultKind, UpstreamError
from modelyard.upstream.faults import LASTING, classify

LONGEST_DETAIL: Final = 200  # characters of an upstream's own words that are passed on


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one OpenAI-compatible endpoint.

    Attributes:
        name: The catalogue's name, for sentences.
        base_url: Up to and including `/v1`.
        model: The model's name at the endpoint.
        api_key_env: Name of the environment variable that holds the key; None where none is needed.
        timeout_s: Longest time for one call; None takes the client's.
    """

    name: str
    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float | None = None

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
            raise self.error(f"needs a key: the environment variable {self.api_key_env} is not set", kind="auth")
        if not (key.isascii() and key.isprintable()):
            raise self.error(
                f"needs a key of printable ASCII in the environment variable {self.api_key_env}", kind="auth"
            )
        return {"Authorization": f"Bearer {key}"}

    def error(
        self,
        what: str,
        *,
        kind: FaultKind = "garbage",
        status: int | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        said: str = "",
    ) -> UpstreamError:
        """Return an error: one sentence that names the model and its host, and neither the key nor anything that the endpoint said.

        Args:
            what: The rest of the sentence, without its full stop.
            kind: What went wrong.
            status: The HTTP status, where a response came.
            retryable: Whether the same call may succeed later; by the kind where it is not said.
            retry_after_s: When the upstream wants to be called again.
            said: The endpoint's own words, which stand apart from the sentence; their start is kept.
        """
        sentence = f"The model {self.name!r} at {self._host} {self._redact(what)}."
        again = kind not in LASTING if retryable is None else retryable
        return UpstreamError(
            sentence,
            kind=kind,
            status=status,
            retryable=again,
            retry_after_s=retry_after_s,
            said=self._said(said),
        )

    def refused(self, status: int, detail: str, *, code: str = "", retry_after_s: float | None = None) -> UpstreamError:
        """Return the error for an HTTP status other than 200, with the start of what the endpoint said."""
        kind, retryable = classify(status, code, detail, retry_after_s)
        return self.error(
            f"answered with status {status}",
            kind=kind,
            status=status,
            retryable=retryable,
            retry_after_s=retry_after_s,
            said=detail,
        )

    def reported(self, error: object) -> UpstreamError:
        """Return the error for an error object inside a body or a stream whose status was 200."""
        code, message = error_parts(error)
        status = int(code) if code.isdecimal() and len(code) == 3 else None
        kind, retryable = classify(status or (429 if "rate_limit" in code else 500), code, message, None)
        return self.error(
            "reported an error", kind=kind, status=status, retryable=retryable, said=message or "no message"
        )

    @property
    def _host(self) -> str:
        try:
            return urlsplit(self.base_url).hostname or "no host"
        except ValueError:  # brackets that do not match
            return "no host"

    def _said(self, detail: str) -> str:
        words = " ".join(self._redact(detail).split())
        return "".join(letter for letter in words if letter.isprintable())[:LONGEST_DETAIL].rstrip(". ")

    def _redact(self, text: str) -> str:
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return text.replace(key, "***") if key else text


def error_parts(error: object) -> tuple[str, str]:
    """Return code (or type) and message of what stands under `error` in an OpenAI-shaped body; empty where there is none."""
    if isinstance(error, str):
        return "", error
    if not isinstance(error, Mapping):
        return "", ""
    row: Mapping[str, Any] = error
    code, message = row.get("code") or row.get("type") or "", row.get("message")
    return str(code) if isinstance(code, str | int) else "", message if isinstance(message, str) else ""
