"""Reads labelled prompts from outcome tables, eval sets' task files and plain tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from modelyard.errors import InvalidTable


@dataclass(frozen=True, slots=True)
class LabelledPrompts:
    """n prompts and their labels, one row a prompt_id."""

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    labels: tuple[str, ...]


def read_labelled(path: Path, label: str) -> LabelledPrompts:
    """Read parquet, CSV or JSONL with the columns `prompt_id` (or `id`), `prompt` and the label; repeated prompt_ids count once.

    Raises:
        InvalidTable: The file cannot be read, a column or value is missing, or one prompt_id has two labels.
    """
    frame: Any = _read(path)  # pandas' stubs give columns several types
    if "prompt_id" not in frame.columns and "id" in frame.columns:
        frame = frame.rename(columns={"id": "prompt_id"})
    for name in ("prompt_id", "prompt", label):
        if name not in frame.columns:
            raise InvalidTable(f"{path} lacks the column {name!r}; it has {', '.join(map(str, frame.columns))}.")
        missing = frame[name].isna().to_numpy().nonzero()[0]
        if len(missing):
            raise InvalidTable(
                f"{path}, row {missing[0] + 1}, column {name!r}: a value is required, but it is missing."
            )
    if frame.empty:
        raise InvalidTable(f"{path} has no rows.")
    several = frame.groupby("prompt_id")[label].nunique()
    if (several > 1).any():
        raise InvalidTable(
            f"{path}: prompt_id {several[several > 1].index[0]!r} has more than one value in column {label!r}."
        )
    frame = frame.drop_duplicates("prompt_id")
    return LabelledPrompts(*(tuple(map(str, frame[name])) for name in ("prompt_id", "prompt", label)))


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix in (".jsonl", ".ndjson") or path.name.endswith(".jsonl.gz"):
            return pd.read_json(path, lines=True)
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise InvalidTable(f"Cannot read {path}: {str(error).splitlines()[0]}") from None
    raise InvalidTable(f"{path} must be a .parquet, .csv or .jsonl file.")
