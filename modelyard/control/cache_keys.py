"""Keys of the caches: digests of everything that a value depends on.

`owner` is the API key whose entry it is; None shares entries between keys, which an operator does on purpose. Decisions and passages have
no owner: they are functions of what the asker sends, and hold nothing of another caller. What is left is their speed: somebody who measures
fractions of a millisecond can guess that a prompt was asked before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from modelyard.types import Message, Versions

DIGEST_BYTES: Final = 20  # 160 bits: no two contents meet by chance, or by an attacker's design within 2^80 trials


def answer_key(message: Message, versions: Versions, *, revision: int, owner: str | None) -> bytes:
    """Return the key of a whole answer.

    Args:
        message: Every turn with its wire form, the parameters, the needs and the conversation's name count; its id does not.
        versions: Composite, classifier, router, index and prompt that would make the answer.
        revision: The catalogue's.
        owner: The API key's id, or None.
    """
    return _digest(
        "answer",
        owner,
        revision,
        _versions(versions),
        [[turn.role, turn.text, turn.wire] for turn in message.turns],
        message.parameters,
        sorted(message.needs),
        message.conversation,
    )


def decision_key(subject: str, tokens: int, needs: Collection[str], versions: Versions, *, generation: int) -> bytes:
    """Return the key of a task and route.

    Args:
        subject: The text that classifier and router read.
        tokens: Of the whole prompt, by which candidates are priced.
        needs: What a base model must be able to do.
        versions: Composite, classifier, router and index that decide.
        generation: Of what serves: another one has other candidates, prices or weights, or champions whose versions say nothing of it.
    """
    return _digest("decision", generation, _versions(versions), subject, tokens, sorted(needs))


def embedding_key(
    space: Sequence[str], parameters: Mapping[str, Any], text: str | Sequence[int], *, owner: str | None
) -> bytes:
    """Return the key of one input's embedding; `parameters` are the request's without the input itself."""
    return _digest("embedding", owner, space, parameters, text)


def passages_key(index_version: str, query: str, k: int) -> bytes:
    """Return the key of what retrieval finds for a query in one version of an index."""
    return _digest("passages", index_version, query, k)


def _versions(versions: Versions) -> list[str | None]:
    return [versions.composite, versions.classifier, versions.router, versions.index, versions.prompt]


def _digest(*parts: Any) -> bytes:
    return hashlib.blake2b(_canonical(parts), digest_size=DIGEST_BYTES).digest()


def _canonical(parts: tuple[Any, ...]) -> bytes:
    """Write values so that equal ones give equal bytes, and others do not."""
    try:
        return orjson.dumps(parts, _plain, orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates and integers beyond 64 bits, which JSON from outside may hold
        return json.dumps(parts, default=_plain, sort_keys=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a cache key cannot hold {type(value).__name__}")
