"""Base models that need no network: they answer with sentences of the knowledge base.

    sentence   the one or two sentences that share most with the prompt's words, from an inverted index over all sentences. The cheapest.
    passages   the best sentences out of the best passages, found by words and by subject (BM25 and LSA), weighed sentence by sentence in
               the context of their passage, put in reading order, with the code that belongs to them. Dearer, and reads what the
               prompt means rather than what it says.

Both are deterministic, quote exactly, and say so where the knowledge base has nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from math import ceil
from typing import Final

from modelyard.catalog import BaseModel, estimate_tokens
from modelyard.catalog.records import LocalMethod
from modelyard.errors import InvalidSetting
from modelyard.generation.composing import compose, quote_sentences, write
from modelyard.retrieval import Index
from modelyard.tasks.reading import read
from modelyard.types import Delta, Draft, Message, Passage, Usage

NOTHING: Final = "The knowledge base has nothing on this."
NO_INDEX: Final = (
    "No knowledge base was built yet, so there is nothing to answer from: run `python -m pipelines build-index`."
)
PASSAGES: Final = 4  # searched for where retrieval gave none


class LocalExtractive:
    """Drafts answers with a model of the catalogue whose kind is `local`.

    Raises:
        InvalidSetting: The catalogue gives the model no method.
    """

    def __init__(self, model: BaseModel, index: Index | None) -> None:
        if model.method is None:
            raise InvalidSetting(f"The catalogue gives the local model {model.name!r} no method.")
        self.name = model.name
        self._method: LocalMethod = model.method
        self._price = model.price
        self._index = index

    async def generate(self, message: Message, passages: Sequence[Passage]) -> Draft:
        """Draft an answer; the method `sentence` looks at the whole knowledge base and leaves the passages aside."""
        return self.draft(read(message).text, passages)

    async def stream(self, message: Message, passages: Sequence[Passage]) -> AsyncGenerator[Delta | Draft]:
        """Yield the text in pieces and the whole `Draft` last."""
        draft = self.draft(read(message).text, passages)
        for line in draft.text.splitlines(keepends=True):
            yield Delta(line)
        yield draft

    def draft(self, prompt: str, passages: Sequence[Passage] = ()) -> Draft:
        """Draft an answer to a prompt."""
        if self._index is None:
            quotes, text = (), NO_INDEX
        else:
            quotes = self._quotes(self._index, prompt, passages)
            text = write(quotes) if quotes else NOTHING
        read, written = ceil(estimate_tokens(len(prompt))), ceil(estimate_tokens(len(text)))
        usage = Usage(read, written, self._price.cost(read, written))
        return Draft(text, self.name, usage, cited=quotes)

    def _quotes(self, index: Index, prompt: str, passages: Sequence[Passage]) -> tuple[Passage, ...]:
        if self._method == "sentence":
            return quote_sentences(index, prompt)
        return compose(index, prompt, passages or index.search(prompt, PASSAGES))
