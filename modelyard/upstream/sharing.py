"""What belongs to whom in a call that several requests share: inputs, entries of the response, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, cast

from modelyard.errors import InvalidInput, UpstreamError
from modelyard.types import estimate_tokens
from modelyard.upstream.wire import mapping, prompt_count

Body = Mapping[str, Any]


def inputs_of(body: Body) -> list[Any]:
    """Return the inputs of a request one by one: texts, lists of token numbers, or one list of parts (texts and images).

    Raises:
        InvalidInput: There is none.
    """
    found = body.get("input")
    if isinstance(found, list) and found:
        listed = cast("list[Any]", found)
        return [listed] if all(isinstance(one, int) for one in listed) or in_parts([listed]) else listed
    if not found or not isinstance(found, str):
        raise InvalidInput("The field 'input' must be a text or a list that is not empty.")
    return [found]


def in_parts(inputs: Sequence[Any]) -> bool:
    """Whether an input is a list of parts, which cannot stand in one list with others."""
    return any(isinstance(one, list) and one and isinstance(one[0], Mapping) for one in inputs)


def estimated_tokens(inputs: Sequence[Any]) -> int:
    """Return about how many tokens the inputs take; those that came as tokens, exactly."""
    return ceil(estimate_tokens(sum(map(_length, inputs))))


def tokens_used(response: Body, inputs: Sequence[Any]) -> tuple[int, bool]:
    """Return the tokens of a call, and whether they are an estimate: its response reports none, or no sensible number."""
    counted = prompt_count(response.get("usage"))
    return (estimated_tokens(inputs), True) if counted is None else (counted, False)


def split(response: Body, entries: str, requests: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Cut the response to a shared call into one for each request, its entries numbered from 0.

    Raises:
        UpstreamError: It does not hold one entry for each input (kind `garbage`).
    """
    found: Any = response.get(entries)
    count = sum(map(len, requests))
    ordered = _in_order(cast("list[Any]", found)) if isinstance(found, list) else []
    if len(ordered) != count:
        raise UpstreamError(f"The upstream gave {len(ordered)} entries for {count} inputs.", kind="garbage")
    if len(requests) == 1:
        return [{**response, entries: ordered}]
    usages = _split_usage(response.get("usage"), [sum(map(_length, inputs)) for inputs in requests])
    parts, start = list[dict[str, Any]](), 0
    for inputs, usage in zip(requests, usages, strict=True):
        own = ordered[start : start + len(inputs)]
        start += len(inputs)
        numbered = [entry | {"index": n} if "index" in entry else entry for n, entry in enumerate(own)]
        part = {**response, entries: numbered}
        parts.append(part if usage is None else part | {"usage": usage})
    return parts


def split_count(count: int, inputs: Sequence[Any]) -> list[int]:
    """Split tokens between inputs by their length; the parts are whole and add up to the count."""
    return _shares(count, [_length(one) for one in inputs])


def _in_order(found: list[Any]) -> list[dict[str, Any]]:
    entries = [cast("dict[str, Any]", entry) for entry in found if isinstance(entry, dict)]
    if not all("index" in entry for entry in entries):
        return entries
    by_index = {entry["index"]: entry for entry in entries}
    numbers = range(len(entries))
    return [by_index[n] for n in numbers] if by_index.keys() == set(numbers) else []


def _length(one: Any) -> int:
    """Return an input's weight: characters of a text and of the texts among parts, tokens of a list, 4 characters each; at least 1."""
    if in_parts([one]):
        texts = [mapping(part).get("text") for part in one]
        return max(sum(len(text) for text in texts if isinstance(text, str)), 1)
    return max(len(one), 1) if isinstance(one, str) else 4 * max(len(one), 1)


def _split_usage(usage: Any, weights: Sequence[int]) -> list[dict[str, Any] | None]:
    """Split every number of a usage by weight; whole numbers stay whole and add up to the original."""
    if not isinstance(usage, Mapping):
        return [None] * len(weights)
    counts = cast("Mapping[str, Any]", usage)
    columns = {name: _shares(value, weights) for name, value in counts.items()}
    return [{name: column[n] for name, column in columns.items()} for n in range(len(weights))]


def _shares(value: Any, weights: Sequence[int]) -> list[Any]:
    total = sum(weights)
    if isinstance(value, float):
        return [value * weight / total for weight in weights]
    if isinstance(value, bool) or not isinstance(value, int):
        return [value] * len(weights)
    # Largest remainders: whole parts first, and what is left over to those that were cut most.
    parts = [value * weight // total for weight in weights]
    cut = sorted(range(len(weights)), key=lambda n: value * weights[n] % total, reverse=True)
    for n in cut[: value - sum(parts)]:
        parts[n] += 1
    return parts
