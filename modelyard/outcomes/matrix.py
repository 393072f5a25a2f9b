"""The outcome table turned into arrays, prompts × models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.errors import InvalidTable
from modelyard.types import estimate_tokens

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """Prompts × models; n prompts, m models. Missing observations are NaN.

    Attributes:
        prompt_ids, prompts, domains: n entries each.
        models: m names, in the order asked for.
        scores, costs_usd, output_chars: shape (n, m).
    """

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    domains: tuple[str, ...]
    models: tuple[str, ...]
    scores: FloatArray
    costs_usd: FloatArray
    output_chars: FloatArray

    @classmethod
    def of(cls, table: pa.Table, models: Sequence[str], where: str) -> OutcomeMatrix:
        """Arrange the rows of `models`; prompts that none of them answered are left out.

        Raises:
            InvalidTable: A model has no row in the table.
        """
        columns = table.to_pydict()
        place = {name: j for j, name in enumerate(models)}
        absent = [name for name in models if name not in set(columns["model"])]
        if absent:
            raise InvalidTable(
                f"{where} has no outcome of the model {absent[0]!r}; it has {', '.join(sorted(set(columns['model'])))}."
            )
        rows: dict[str, int] = {}
        first: list[int] = []
        for r, (prompt_id, model) in enumerate(zip(columns["prompt_id"], columns["model"], strict=True)):
            if model in place and prompt_id not in rows:
                rows[prompt_id] = len(rows)
                first.append(r)
        arrays = {name: np.full((len(rows), len(models)), np.nan) for name in ("score", "cost_usd", "output_chars")}
        for r, (prompt_id, model) in enumerate(zip(columns["prompt_id"], columns["model"], strict=True)):
            if model in place:
                for name, array in arrays.items():
                    value = columns[name][r]
                    array[rows[prompt_id], place[model]] = np.nan if value is None else value
        lengths = _response_lengths(columns, rows, place, arrays["output_chars"])
        return cls(
            tuple(rows),
            tuple(columns["prompt"][r] for r in first),
            tuple(columns["domain"][r] for r in first),
            tuple(models),
            arrays["score"],
            arrays["cost_usd"],
            lengths,
        )

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> OutcomeMatrix:
        """Return the given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return OutcomeMatrix(
            tuple(self.prompt_ids[i] for i in index),
            tuple(self.prompts[i] for i in index),
            tuple(self.domains[i] for i in index),
            self.models,
            self.scores[index],
            self.costs_usd[index],
            self.output_chars[index],
        )

    def complete(self) -> OutcomeMatrix:
        """Return the prompts that every model answered."""
        return self.take(np.flatnonzero(~np.isnan(self.scores).any(axis=1)))

    @property
    def prompt_tokens(self) -> FloatArray:
        """Estimated tokens of each prompt, shape (n,)."""
        return np.array([estimate_tokens(len(prompt)) for prompt in self.prompts])


def _response_lengths(
    columns: Mapping[str, list[Any]], rows: Mapping[str, int], place: Mapping[str, int], known: FloatArray
) -> FloatArray:
    for prompt_id, model, response in zip(columns["prompt_id"], columns["model"], columns["response"], strict=True):
        if response is not None and prompt_id in rows and model in place:
            cell = (rows[prompt_id], place[model])
            if np.isnan(known[cell]):
                known[cell] = len(response)
    return known
