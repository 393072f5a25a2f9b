"""Reads labelled prompts from outcome tables, eval sets' task files and plain tables: parquet, CSV, TSV or JSON lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from eval_sets.recorded import TableFile, read_table_file
from modelyard.errors import InvalidTable


@dataclass(frozen=True, slots=True)
class LabelledPrompts:
    """n prompts and their labels, one row a prompt_id."""

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    labels: tuple[str, ...]


def read_labelled(path: Path, label: str) -> LabelledPrompts:
    """Read a table with the columns `prompt_id` (or `id`), `prompt` and the label; repeated prompt_ids count once.

    Raises:
        InvalidTable: The file cannot be read, a column or value is missing, or one prompt_id has two labels or two prompts.
    """
    file = read_table_file(path)
    columns = [str(name) for name in file.frame.columns]
    key = "id" if "prompt_id" not in columns and "id" in columns else "prompt_id"
    for name in (key, "prompt", label):
        if name not in columns:
            raise InvalidTable(f"{path} lacks the column {name!r}; it has {', '.join(columns)}.")
    rows: dict[str, tuple[int, str, str]] = {}
    values = zip(*(_texts(file, name) for name in (key, "prompt", label)), strict=True)
    for row, (prompt_id, prompt, value) in enumerate(values, start=1):
        first, *before = rows.setdefault(prompt_id, (row, prompt, value))
        for name, was, now in zip(("prompt", label), before, (prompt, value), strict=True):
            if was != now:
                raise file.error(row, name, f"{key} {prompt_id!r} has another value than in row {first}: {_short(now)}")
    _, prompts, labels = zip(*rows.values(), strict=True)
    return LabelledPrompts(tuple(rows), prompts, labels)


def _texts(file: TableFile, column: str) -> list[str]:
    """Return a column as text.

    Raises:
        InvalidTable: A value is missing, or is neither text nor a number.
    """
    found: list[str] = []
    for row, value in enumerate(file.frame[column].tolist(), start=1):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise file.error(row, column, "a value is required, but it is missing")
        if not isinstance(value, str | int | float):
            raise file.error(row, column, f"must be text or a number, but is {_short(value)}")
        found.append(str(value))
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
