"""A request as spans, outlined after its end from what is known then: the answer, or the plan and the calls that led to none.

    chat auto                       the request: a server span
    ├── classify, route, retrieve   the steps of the plan
    ├── generate
    │   ├── chat gpt-4o-mini        a call of a deployment: client spans
    │   └── chat gpt-4o
    └── post-process

Names and attributes are OpenTelemetry's for generative AI; `modelyard.*` is what those have no word for. Steps and calls are known by how
long they took: they stand one behind the other, and what lies between two calls (waiting before a retry) is shared out evenly.

Reasons are left out where they may quote an upstream, which may quote the prompt: a failed call is named by its kind alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from modelyard.composite import Plan
from modelyard.serving.redact import redact
from modelyard.serving.reports import Failure, Request
from modelyard.types import Answer, Attempt, Message, StepReport, Usage, fell_back

Kind = Literal["server", "client", "internal"]
Value = str | bool | int | float | Sequence[str]
PROVIDER: Final = "modelyard"
GENERATE: Final = "generate"
LARGEST: Final = 2**63 - 1
LONGEST_TEXT: Final = 20_000  # characters of a turn


@dataclass(frozen=True, slots=True)
class Outline:
    """A span to be.

    Attributes:
        name: Such as `chat auto`.
        kind: Of OpenTelemetry's.
        start_ns, end_ns: Since 1970.
        parent: Place of the parent among the request's outlines; None for the first, the request itself.
        attributes: By OpenTelemetry's names.
        failed: Whether its status is an error.
    """

    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    parent: int | None
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])
    failed: bool = False


def outline(request: Request, *, texts: bool = False) -> list[Outline]:
    """Return the request's spans, parents before children.

    Args:
        request: What ended.
        texts: Whether prompt and answer are shown, with keys and e-mail addresses replaced.
    """
    start_ns = request.ended_ns - _ns(request.ms)
    end = request.end
    root = Outline(
        f"chat {request.composite}", "server", start_ns, request.ended_ns, None, _about(request, texts=texts),
        isinstance(end, Failure) and end.ours,
    )  # fmt: skip
    spans = [root]
    if not request.cache_hit:  # the steps of an answer from the cache are another request's
        at = start_ns
        for step in _steps(request):
            until = min(at + _ns(step.ms), request.ended_ns)
            spans.append(Outline(step.name, "internal", at, until, 0, _about_step(step, end), step.status == "failed"))
            if step.name == GENERATE:
                spans.extend(calls(end.attempts, at, until, len(spans) - 1))
            at = until
    return spans


def _steps(request: Request) -> tuple[StepReport, ...]:
    end = request.end
    if isinstance(end, Answer):
        return end.steps
    planned = () if end.plan is None else end.plan.steps
    if not end.attempts:
        return planned
    left_ms = max(request.ms - sum(step.ms for step in planned), 0.0)
    return (*planned, StepReport(GENERATE, "failed", end.kind, left_ms))


def calls(
    attempts: Sequence[Attempt], start_ns: int, end_ns: int, parent: int, operation: str = "chat"
) -> Iterator[Outline]:
    """Yield the calls: the first begins and the last ends with the step, as far as they fit into it."""
    spare = max(end_ns - start_ns - sum(_ns(attempt.ms) for attempt in attempts), 0)
    pause = spare // (len(attempts) - 1) if len(attempts) > 1 else 0
    at = start_ns
    for attempt in attempts:
        until = min(at + _ns(attempt.ms), end_ns)
        failed = attempt.outcome == "failed"
        about = _about_call(attempt) | {"gen_ai.operation.name": operation}
        yield Outline(f"{operation} {attempt.model}", "client", at, until, parent, about, failed)
        at = min(until + pause, end_ns)


def _about(request: Request, *, texts: bool) -> dict[str, Value]:
    message, end = request.message, request.end
    about: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": request.composite,
        "gen_ai.response.id": message.id,
        "modelyard.composite": request.composite,
        **_parameters(message),
    }
    if request.request_id is not None:
        about["modelyard.request_id"] = request.request_id
    if request.first_token_ms is not None:
        about["gen_ai.response.time_to_first_chunk"] = request.first_token_ms / 1000
    about |= _about_answer(end, cache_hit=request.cache_hit) if isinstance(end, Answer) else _about_failure(end)
    if texts:
        about["gen_ai.input.messages"] = _messages((turn.role, turn.text, None) for turn in message.turns)
        if isinstance(end, Answer):
            about["gen_ai.output.messages"] = _messages([("assistant", end.text, end.finish_reason)])
    return about


def _parameters(message: Message) -> dict[str, Value]:
    given = message.parameters
    limit = given.get("max_completion_tokens") or given.get("max_tokens")
    found: dict[str, Any] = {
        "gen_ai.request.max_tokens": limit,
        "gen_ai.request.temperature": given.get("temperature"),
        "gen_ai.request.top_p": given.get("top_p"),
        "gen_ai.request.seed": given.get("seed"),
        "gen_ai.request.frequency_penalty": given.get("frequency_penalty"),
        "gen_ai.request.presence_penalty": given.get("presence_penalty"),
    }
    return {name: value for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    """Return whether a caller's parameter can be an attribute: those hold numbers of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or -LARGEST <= value <= LARGEST


def _about_answer(answer: Answer, *, cache_hit: bool) -> dict[str, Value]:
    usage = Usage(0, 0, 0.0) if cache_hit else answer.usage
    return {
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": (answer.finish_reason,),
        **_about_usage(usage),
        **_about_plan(Plan(answer.task, answer.route, answer.passages, answer.steps)),
        "modelyard.versions.classifier": answer.versions.classifier,
        "modelyard.versions.router": answer.versions.router,
        "modelyard.passages": len(answer.passages),
        "modelyard.fell_back": answer.fell_back,
        "modelyard.cache_hit": cache_hit,
        "modelyard.attempts": 0 if cache_hit else len(answer.attempts),
    }


def _about_failure(failure: Failure) -> dict[str, Value]:
    charged = [attempt.usage for attempt in failure.attempts if attempt.usage is not None]
    about: dict[str, Value] = {
        "error.type": failure.kind,
        "modelyard.fell_back": fell_back(failure.attempts),
        "modelyard.attempts": len(failure.attempts),
        "gen_ai.usage.input_tokens": sum(usage.prompt_tokens for usage in charged),
        "gen_ai.usage.output_tokens": sum(usage.completion_tokens for usage in charged),
        "modelyard.cost_usd": sum((usage.cost_usd for usage in charged), 0.0),
    }
    return about if failure.plan is None else about | _about_plan(failure.plan)


def _about_plan(plan: Plan) -> dict[str, Value]:
    route = plan.route
    about: dict[str, Value] = {
        "modelyard.task.domain": plan.task.domain,
        "modelyard.task.complexity": plan.task.complexity,
        "modelyard.route.model": route.model,
        "modelyard.route.policy": route.policy,
        "modelyard.route.reasons": tuple(route.reasons),
    }
    return about if route.confidence is None else about | {"modelyard.route.confidence": route.confidence}


def _about_step(step: StepReport, end: Answer | Failure) -> dict[str, Value]:
    about: dict[str, Value] = {"modelyard.step.status": step.status}
    if step.name == "retrieve":
        about["gen_ai.operation.name"] = "retrieval"
    if step.name != GENERATE:  # whose account quotes failed calls
        about["modelyard.step.reason"] = step.reason
    elif isinstance(end, Failure):
        about["error.type"] = end.kind
    return about


def _about_call(attempt: Attempt) -> dict[str, Value]:
    about: dict[str, Value] = {
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": attempt.model,
        "gen_ai.response.model": attempt.model,
        "modelyard.deployment": attempt.deployment,
        "modelyard.outcome": attempt.outcome,
    }
    if attempt.status is not None:
        about["http.response.status_code"] = attempt.status
    if attempt.usage is not None:
        about |= _about_usage(attempt.usage)
    if attempt.outcome == "cancelled":
        about["error.type"] = "cancelled"
    elif attempt.outcome == "failed":
        about["error.type"] = attempt.reason.partition(":")[0][:40]  # the kind of fault stands before the colon
    return about


def _about_usage(usage: Usage) -> dict[str, Value]:
    about: dict[str, Value] = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "modelyard.cost_usd": usage.cost_usd,
        "modelyard.usage.estimated": usage.estimated,
    }
    return about | {"gen_ai.usage.cache_read.input_tokens": usage.cached_tokens} if usage.cached_tokens else about


def _messages(said: Any) -> str:
    """Return turns as the conventions write them: a role, parts, and for an answer why it ended."""
    messages: list[dict[str, Any]] = []
    for role, text, finish in said:
        message: dict[str, Any] = {"role": role, "parts": [{"type": "text", "content": redact(text, LONGEST_TEXT)}]}
        messages.append(message if finish is None else message | {"finish_reason": finish})
    return json.dumps(messages, ensure_ascii=False)


def _ns(ms: float) -> int:
    return round(ms * 1e6)
