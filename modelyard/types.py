"""The frozen records that flow through one request.

    Message -> Task -> Route -> Passages -> Draft -> Answer
            classify  route   retrieve   generate  post-process

Each arrow is one function; each stage adds one `StepReport`. Money is in USD, time in milliseconds, shares and scores in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from operator import attrgetter
from typing import Any, Literal

from modelyard.identifiers import ordered_hex

Role = Literal["system", "user", "assistant", "tool"]
StepStatus = Literal["ran", "partial", "skipped", "failed"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Capability = Literal["tools", "json", "images", "audio"]
AttemptOutcome = Literal["ok", "failed", "cancelled"]


CHARS_PER_TOKEN = 4


def estimate_tokens(chars: float) -> float:
    """Estimate tokens from a length in characters, four to a token, as long as no upstream has counted them."""
    return chars / CHARS_PER_TOKEN


def new_id(prefix: str) -> str:
    """Return a fresh identifier such as `msg-019a…`; those of a prefix sort by the millisecond they were made in."""
    return f"{prefix}-{ordered_hex()}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of a conversation; `wire` is the message as it came, where it holds more than a role and text (images, tool calls)."""

    role: Role
    text: str
    wire: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What the application sent: a conversation whose last user turn is the prompt.

    Attributes:
        turns: The conversation.
        id: Names the message and its answer.
        parameters: Parameters of the OpenAI wire that a base model should see as they are: `temperature`, `tools`, `response_format` …
        needs: What a base model must be able to do, so that the conversation and the parameters mean to it what they say.
        conversation: Names the conversation, where the application does; routing can then stay with a model.
    """

    turns: tuple[Turn, ...]
    id: str = field(default_factory=lambda: new_id("msg"))
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    needs: frozenset[Capability] = frozenset()
    conversation: str | None = None

    @classmethod
    def of(cls, prompt: str) -> Message:
        """Wrap a single prompt."""
        return cls((Turn("user", prompt),))

    @property
    def prompt(self) -> str:
        """The text of the last user turn, or the empty string."""
        for turn in reversed(self.turns):
            if turn.role == "user":
                return turn.text
        return ""


@dataclass(frozen=True, slots=True)
class Task:
    """What the classifier read from the prompt; probabilities sum to one within each mapping."""

    domain: str
    complexity: str
    domains: Mapping[str, float]
    complexities: Mapping[str, float]
    tokens: int
    classifier: str
    reasons: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """Probability of the chosen domain."""
        return self.domains[self.domain]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A base model as the policy saw it: predicted quality 0..1 (None: not predicted) and cost in USD."""

    model: str
    quality: float | None
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Route:
    """A policy's choice, with everything that was weighed.

    `propensity` is the probability with which this policy chooses this model for this prompt (1.0 when it is deterministic).
    `confidence` is None where the policy does not predict quality. `cost_weight` is λ in `score − λ × cost`, None where it did not decide.
    """

    model: str
    candidates: tuple[Candidate, ...]
    policy: str
    reasons: tuple[str, ...]
    confidence: float | None = None
    propensity: float = 1.0
    cost_weight: float | None = None

    @property
    def chosen(self) -> Candidate:
        """The candidate that was chosen."""
        return next(candidate for candidate in self.candidates if candidate.model == self.model)

    @property
    def alternatives(self) -> tuple[Candidate, ...]:
        """The candidates that were not chosen."""
        return tuple(candidate for candidate in self.candidates if candidate.model != self.model)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a source document: `text == document[start:end]`, in characters."""

    document: str
    title: str
    text: str
    start: int
    end: int
    score: float
    cited: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What one generation used.

    `estimated` is true where the upstream did not report tokens itself; `cached_tokens` of the prompt's were read from its cache.
    """

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    estimated: bool = True
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed draft: text, and what else the wire's `delta` held, such as pieces of tool calls.

    `followed`: the next piece has come already, so that whoever passes them on may do so together.
    `extras`: what the endpoint said of the piece beside it, `logprobs`, and with the first piece `system_fingerprint`.
    """

    text: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    followed: bool = field(default=False, compare=False)
    extras: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one deployment, whatever came of it.

    `reason` says why it was made, or, where it failed, the kind of fault, a colon and a sentence. `usage` is what it will be charged for,
    None where that is nothing.
    """

    model: str
    deployment: str
    outcome: AttemptOutcome
    reason: str
    ms: float
    status: int | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What the base model wrote, before post-processing.

    Attributes:
        text: The text; empty where the model called tools instead.
        model: The base model that wrote it.
        usage: What this draft used; failed attempts before it not counted.
        finish_reason: Why it ended.
        cited: The passages it leans on.
        fields: Other entries of the wire's assistant message, such as `tool_calls`.
        attempts: Every call that was made for it, in order; the last one wrote it.
        extras: What its endpoint said of it: `logprobs`, `system_fingerprint`, `completion_tokens_details`, `prompt_tokens_details`.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: FinishReason = "stop"
    cited: tuple[Passage, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    attempts: tuple[Attempt, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one stage did: nothing is lost on the way and nothing fails open in silence."""

    name: str
    status: StepStatus
    reason: str
    ms: float
    changed: str = ""


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of the parts made an answer."""

    composite: str
    classifier: str
    router: str
    index: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of the line: the text and everything that explains it.

    `route` is what the policy chose; `model` is what answered, which differs after a fallback; `attempts` say how that came about.
    `extras` are the draft's.
    """

    id: str
    text: str
    task: Task
    route: Route
    passages: tuple[Passage, ...]
    usage: Usage
    steps: tuple[StepReport, ...]
    versions: Versions
    finish_reason: FinishReason = "stop"
    notices: tuple[str, ...] = ()
    model: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    attempts: tuple[Attempt, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Take the route's model as the one that answered, unless another one is named."""
        if not self.model:
            object.__setattr__(self, "model", self.route.model)

    @property
    def fell_back(self) -> bool:
        """Whether another deployment answered than the one that was called first; load that balances is no fallback."""
        return fell_back(self.attempts)

    @property
    def metadata(self) -> dict[str, Any]:
        """The one description that the response, the database row, the trace and the dashboards show.

        Returns:
            Three JSON-ready entries named after the `Message` columns: `model_metadata`, `rag_sources`, `processing_metadata`.
        """
        return {
            "model_metadata": {
                "task": {**_plain(self.task), "reasons": list(self.task.reasons), "confidence": self.task.confidence},
                "route": {
                    **_plain(self.route),
                    "candidates": [_plain(candidate) for candidate in self.route.candidates],
                    "reasons": list(self.route.reasons),
                },
                "model": self.model,
                "attempts": [
                    {**_plain(attempt), "usage": None if attempt.usage is None else _plain(attempt.usage)}
                    for attempt in self.attempts
                ],
                "versions": _plain(self.versions),
                "usage": _plain(self.usage),
                "finish_reason": self.finish_reason,
                "notices": list(self.notices),
            },
            "rag_sources": [_plain(passage) for passage in self.passages],
            "processing_metadata": [_plain(step) for step in self.steps],
        }

    def with_step(self, step: StepReport) -> Answer:
        """Return the answer with one more step report."""
        return replace(self, steps=(*self.steps, step))


def fell_back(attempts: Sequence[Attempt]) -> bool:
    """Return whether the last call went elsewhere than the first one."""
    return len(attempts) > 1 and attempts[-1].deployment != attempts[0].deployment


def _plain(record: Any) -> dict[str, Any]:
    """Return a record's fields as they are, one level deep; `dataclasses.asdict` copies everything below, and takes ten times as long."""
    names, values = _fields(type(record))
    return dict(zip(names, values(record), strict=True))


@cache
def _fields(kind: type) -> tuple[tuple[str, ...], attrgetter[tuple[Any, ...]]]:
    names: tuple[str, ...] = tuple(kind.__slots__)
    return names, attrgetter(*names)
