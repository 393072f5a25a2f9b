"""Conversations: routing remembers which model answered last, because that model's endpoint has read the conversation already.

A provider that caches prompts charges less for a prefix that it read lately. Whoever changes the model within a conversation loses that:
what the current model would have saved counts against every other one, in money, and with the policy's weight of cost in score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from cachetools import TTLCache

from modelyard.catalog.records import Composite, Price
from modelyard.tasks.length import message_tokens
from modelyard.types import Message, Route

CONVERSATIONS: Final = 20_000
REMEMBERED_S: Final = 3600.0
CACHED_S: Final = 300.0  # how long providers keep a prefix that nobody reads, about


@dataclass(frozen=True, slots=True)
class _Last:
    model: str
    at: float


class Conversations:
    """Remembers the model of each conversation for a while.

    A conversation is known by the name that the application gave it, else by its first turns up to the first answer: the name of a
    conversation that has no answer yet is not known, and there is nothing to lose. One server's memory is its own.

    Args:
        most: Conversations that are remembered at most; those not heard of for longest go first.
        remembered_s: How long after its last answer one is remembered.
        cached_s: How long after the last answer the prompt cache is taken to hold.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        most: int = CONVERSATIONS,
        remembered_s: float = REMEMBERED_S,
        cached_s: float = CACHED_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models: TTLCache[bytes, _Last] = TTLCache(most, remembered_s, timer=clock)
        self._cached_s, self._clock = cached_s, clock

    def remember(self, message: Message, model: str, answer: str, *, scope: str = "") -> None:
        """Note which model answered a message.

        Args:
            message: The conversation so far.
            model: The base model that answered.
            answer: The text that the application got, with which it will come back.
            scope: Whose conversation it is, such as an API key's id; others' are never taken for it.
        """
        self._models[_key(message, scope) or _first_key(message, answer, scope)] = _Last(model, self._clock())

    def adjust(
        self, route: Route, message: Message, spec: Composite, prices: Mapping[str, Price], *, scope: str = ""
    ) -> Route:
        """Return the route with the conversation's model weighed in, and a reason where that came into it.

        With `sticky = "conversation"` the conversation stays with its model as long as that is a candidate. Without, a policy that
        predicts quality changes the model where what it gains is worth more than the lost prompt cache, `switch_weight` times:

            value = score − λ × (cost + switch_weight × prefix × (input − cached_input))

        for every model but the current one, prefix being the tokens before the last turn, and prices those of the current model.
        """
        key = _key(message, scope)
        last = self._models.get(key) if key is not None else None
        if last is None or last.model == route.model:
            return route
        if last.model not in {candidate.model for candidate in route.candidates}:
            return _reasoned(route, f"the conversation's model {last.model} is no longer a candidate")
        if spec.sticky == "conversation":
            return _staying(route, last.model, f"the conversation stays with {last.model}")
        return self._weighed(route, message, spec, prices, last)

    def _weighed(
        self, route: Route, message: Message, spec: Composite, prices: Mapping[str, Price], last: _Last
    ) -> Route:
        current = next(candidate for candidate in route.candidates if candidate.model == last.model)
        chosen, weight = route.chosen, route.cost_weight if route.cost_weight is not None else spec.cost_weight
        if weight is None or chosen.quality is None or current.quality is None:
            return _reasoned(
                route, f"the conversation changes from {last.model}: the {route.policy} policy decides each turn"
            )
        prefix = prefix_tokens(message)
        warm = self._clock() - last.at <= self._cached_s
        lost_usd = spec.switch_weight * _saved_usd(prices.get(last.model), prefix) if warm else 0.0
        gain = (chosen.quality - weight * (chosen.cost_usd + lost_usd)) - (current.quality - weight * current.cost_usd)
        cache = f"reading {prefix:.0f} tokens again for ${lost_usd:.6f}"
        if gain <= 0.0:
            return _staying(
                route, last.model, f"the conversation stays with {last.model}: {chosen.model} is not worth {cache}"
            )
        if lost_usd == 0.0:
            return _reasoned(route, f"the conversation changes from {last.model}, whose prompt cache saves nothing now")
        return _reasoned(route, f"the conversation changes from {last.model}: {chosen.model} is worth {cache}")


def prefix_tokens(message: Message) -> float:
    """Estimate the tokens of everything before the last turn, descriptions of tools included: providers put those first."""
    return message_tokens(replace(message, turns=message.turns[:-1]))


def _saved_usd(price: Price | None, tokens: float) -> float:
    if price is None or price.cached_input is None:
        return 0.0
    return max(price.input - price.cached_input, 0.0) * tokens / 1e6


def _staying(route: Route, model: str, reason: str) -> Route:
    """Return the route with another model: the history decided, so that the policy's confidence says nothing about it."""
    return replace(route, model=model, reasons=(reason, *route.reasons), confidence=None, propensity=1.0)


def _reasoned(route: Route, reason: str) -> Route:
    return replace(route, reasons=(*route.reasons, reason))


def _key(message: Message, scope: str) -> bytes | None:
    if message.conversation is not None:
        return _hash(scope, "name", message.conversation)
    first = next((n for n, turn in enumerate(message.turns) if turn.role == "assistant"), None)
    if first is None:
        return None
    return _hash(scope, "turns", *(f"{turn.role}\0{turn.text.strip()}" for turn in message.turns[: first + 1]))


def _first_key(message: Message, answer: str, scope: str) -> bytes:
    turns = (f"{turn.role}\0{turn.text.strip()}" for turn in message.turns)
    return _hash(scope, "turns", *turns, f"assistant\0{answer.strip()}")


def _hash(*parts: str) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
