"""What can go wrong, as one tree.

    ModelyardError
    ├── InvalidInput            a value breaks a rule; the sentence names the rule and the value
    │   ├── InvalidTable        … in an outcome table: names file, row and column
    │   ├── InvalidEvalSet      … in an eval set: names file and row
    │   ├── InvalidSetting      … in the environment, a TOML file or an option
    │   └── ContextTooLong      … in a request: no model's context window holds it
    ├── UnknownModel            a model or composite name that the catalogue does not serve
    ├── RegistryError
    │   ├── NoChampion          nothing was promoted yet
    │   ├── CorruptModel        a saved model differs from its manifest
    │   └── PromotionRefused    the gate said no, and why
    ├── GenerationError         a base model gave no usable draft
    │   └── UpstreamError       … because its HTTP endpoint failed; carries the kind of fault and the status
    ├── AccessDenied            a caller may not do this
    │   ├── Unauthenticated     … for want of a valid key
    │   └── Forbidden           … with this key
    ├── LimitExceeded           a rate, budget or queue is used up; says when to come back
    ├── BudgetExceeded          a run would cost more than its ceiling
    └── MissingExtra            an optional package is not installed; names the extra

Every message is one sentence of ours for a person; what an upstream said stands apart, in `UpstreamError.said`, for the caller alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from modelyard.types import Attempt


class ModelyardError(Exception):
    """Anything that Modelyard raises on purpose."""

    @property
    def in_full(self) -> str:
        """What its caller is told; nobody else may be, since an upstream's words may quote the prompt."""
        return str(self)


class InvalidInput(ModelyardError, ValueError):
    """A value breaks a rule."""


class InvalidTable(InvalidInput):
    """An outcome table breaks a rule."""


class InvalidEvalSet(InvalidInput):
    """An eval set breaks a rule."""


class InvalidSetting(InvalidInput):
    """A setting or option breaks a rule."""


class ContextTooLong(InvalidInput):
    """A request is longer than every context window (OpenAI's code `context_length_exceeded`)."""


class UnknownModel(InvalidInput):
    """No model or composite of that name is in the catalogue."""


class RegistryError(ModelyardError):
    """The model registry could not do what was asked."""


class NoChampion(RegistryError):
    """Nothing was promoted under that name yet."""


class CorruptModel(RegistryError):
    """A saved model differs from its manifest."""


class PromotionRefused(RegistryError):
    """The gate refused a promotion."""


class GenerationError(ModelyardError):
    """A base model gave no usable draft."""


FaultKind = Literal[
    "connect",  # no connection came about: refused, DNS, TLS
    "timeout",
    "rate_limit",  # 429, or 503 with Retry-After
    "server",  # 5xx
    "auth",  # 401, 403
    "not_found",  # 404
    "rejected",  # any other 4xx: the same call fails everywhere
    "context_length",
    "content_policy",
    "garbage",  # an answer that is not one
    "cut",  # it broke off
    "unavailable",  # nothing was called: every deployment is disabled, open-circuited or full
]


class UpstreamError(GenerationError):
    """An upstream endpoint failed.

    Args:
        message: One sentence for a person.
        kind: What went wrong.
        status: The HTTP status, or None where no response came.
        retryable: Whether the same call may succeed later.
        retry_after_s: When the upstream wants to be called again, where it said so.
        said: The upstream's own words, without keys: for the caller, and never for a log, a metric or another caller.

    Attributes:
        attempts: Every call that was made for the answer before this error ended it.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: FaultKind = "server",
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.said = said
        self.attempts: tuple[Attempt, ...] = ()

    @property
    def in_full(self) -> str:
        """Our sentence, with the upstream's own words behind a colon."""
        return f"{str(self).removesuffix('.')}: {self.said}." if self.said else str(self)

    def without_words(self) -> UpstreamError:
        """Return the same error without the upstream's words, which may quote what somebody else asked in the same call."""
        error = UpstreamError(
            str(self),
            kind=self.kind,
            status=self.status,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
        )
        error.attempts = self.attempts
        return error


class AccessDenied(ModelyardError):
    """A caller may not do this."""


class Unauthenticated(AccessDenied):
    """No valid API key came with the request."""


class Forbidden(AccessDenied):
    """The API key does not allow this."""


class LimitExceeded(ModelyardError):
    """A rate, a budget or a queue is used up.

    Args:
        message: One sentence that names the limit, whose it is, and its value.
        retry_after_s: When it makes sense to try again; None where it does not, as with a budget that only a person can raise.
        kind: `rate` (429), `budget` (429, code `insufficient_quota`) or `capacity` (503).
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, kind: Literal["rate", "budget", "capacity"] = "rate"
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.kind: Literal["rate", "budget", "capacity"] = kind


class BudgetExceeded(ModelyardError):
    """A run would cost more than its ceiling."""


class MissingExtra(ModelyardError, ImportError):
    """An optional package is not installed."""
