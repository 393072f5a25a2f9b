"""Embeddings of single inputs, remembered: a request asks its endpoint for those inputs only that are not known yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.control.cache_keys import embedding_key
from modelyard.control.caches import Cache, Embedding
from modelyard.errors import UpstreamError
from modelyard.upstream.sharing import inputs_of, split, split_count, tokens_used


@dataclass(frozen=True, slots=True)
class RememberedInputs:
    """A request's inputs, and what is known of each.

    Attributes:
        body: The request.
        inputs: Its inputs one by one.
        keys: The cache's key of each input.
        known: What the cache holds of each, or None.
    """

    body: Mapping[str, Any]
    inputs: Sequence[Any]
    keys: tuple[bytes, ...]
    known: tuple[Embedding | None, ...]

    @classmethod
    def look_up(
        cls, cache: Cache[Embedding], space: Sequence[str], body: Mapping[str, Any], *, owner: str | None
    ) -> RememberedInputs:
        """Look every input up.

        Args:
            cache: Where to.
            space: Names the embedding space: everything that decides which model it is that embeds.
            body: The request; all of it but `input` and `model` counts.
            owner: The API key's id; None shares between keys.

        Raises:
            InvalidInput: The body has no input.
        """
        inputs = inputs_of(body)
        parameters = {name: value for name, value in body.items() if name not in {"input", "model"}}
        keys = tuple(embedding_key(space, parameters, one, owner=owner) for one in inputs)
        return cls(body, inputs, keys, tuple(cache.get(key) for key in keys))

    @property
    def missing(self) -> dict[str, Any] | None:
        """The request for what is not known, or None where everything is; an input that comes twice is asked for once."""
        wanted = self._wanted()
        if not wanted:
            return None
        if len(wanted) == len(self.inputs):
            return dict(self.body)
        return {**self.body, "input": [self.inputs[place] for place in wanted.values()]}

    def answer(self, cache: Cache[Embedding], response: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the response to the whole request, and remember what is new.

        Its usage counts all inputs, as the endpoint would have; what is to be charged is the usage of `response`.

        Args:
            cache: Where to remember.
            response: The endpoint's response to `missing`; None where nothing was.

        Raises:
            UpstreamError: The response does not hold one embedding for each input (kind `garbage`).
        """
        found = {key: known for key, known in zip(self.keys, self.known, strict=True) if known is not None}
        wanted = self._wanted()
        for key, embedding in zip(wanted, self._new(response, list(wanted.values())), strict=True):
            cache.put(key, embedding)
            found[key] = embedding
        data = [{"object": "embedding", "index": n, "embedding": found[key].vector} for n, key in enumerate(self.keys)]
        tokens = sum(found[key].tokens for key in self.keys)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": self.body.get("model"), **(response or {}), "data": data, "usage": usage}

    def _wanted(self) -> dict[bytes, int]:
        """Return the place of every input that is asked for, by key."""
        places: dict[bytes, int] = {}
        for place, (key, known) in enumerate(zip(self.keys, self.known, strict=True)):
            if known is None:
                places.setdefault(key, place)
        return places

    def _new(self, response: Mapping[str, Any] | None, places: Sequence[int]) -> list[Embedding]:
        if response is None:
            return []
        asked = [self.inputs[place] for place in places]
        (whole,) = split(response, "data", [asked])  # in the inputs' order
        vectors: list[Any] = [entry.get("embedding") for entry in whole["data"]]
        if not all(isinstance(vector, list | str) and vector for vector in vectors):
            raise UpstreamError(
                f"The upstream gave an entry without an embedding for {len(asked)} inputs.", kind="garbage"
            )
        tokens = split_count(tokens_used(response, asked)[0], asked)
        return [Embedding(vector, count) for vector, count in zip(vectors, tokens, strict=True)]
