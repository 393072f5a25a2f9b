"""Reads, checks and writes outcome tables; every complaint names the file, the row and the column."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.errors import InvalidTable
from modelyard.outcomes.schema import REQUIRED, SCHEMA


def read_outcomes(path: Path) -> pa.Table:
    """Read and check an outcome table.

    Returns:
        The table in the columns and types of `SCHEMA`; optional columns that the file lacks are null.

    Raises:
        InvalidTable: The file is not there, is not parquet, or breaks a rule of the schema.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise InvalidTable(f"There is no outcome table {path}.") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidTable(f"{path} is not a parquet file: {str(error).splitlines()[0]}") from None
    return validate(table, str(path))


def validate(table: pa.Table, where: str) -> pa.Table:
    """Check a table against the schema and return it in the schema's columns and types; rows are counted from 1.

    Raises:
        InvalidTable: A column is missing or of the wrong type, the table is empty, a required value is missing, a score is NaN or outside
            0..1, a prompt × model pair is repeated, or one prompt_id stands for two prompts.
    """
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise InvalidTable(
            f"{where} lacks the column {missing[0]!r}; an outcome table needs {', '.join(REQUIRED)} "
            f"and has {', '.join(table.column_names)}."
        )
    if table.num_rows == 0:
        raise InvalidTable(f"{where} has no rows; an outcome table needs at least one prompt × model row.")
    table = pa.table([_column(table, field, where) for field in SCHEMA], schema=SCHEMA)
    _check_values(table, where)
    _check_pairs(table, where)
    return table


def write_outcomes(table: pa.Table, path: Path) -> None:
    """Check and write a table; the file appears whole or not at all."""
    table = validate(table, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def concat(tables: Sequence[pa.Table], where: str) -> pa.Table:
    """Join tables and check the whole: pairs repeated across tables are an error, too."""
    return validate(pa.concat_tables(tables), where)


def _column(table: pa.Table, field: pa.Field, where: str) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)], type=field.type)
    column = table.column(field.name)
    numeric = pa.types.is_floating(field.type)
    fits = (
        (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type))
        if numeric
        else (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or _is_string_like(column.type))
    )
    if not fits and not pa.types.is_null(column.type):
        wanted = "a number" if numeric else "text"
        raise InvalidTable(f"{where}, column {field.name!r} must be {wanted}, but is {column.type}.")
    if not field.nullable and column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise InvalidTable(f"{where}, row {row}, column {field.name!r}: a value is required, but it is missing.")
    if numeric and pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return column.cast(field.type)


def _is_string_like(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)


def _check_values(table: pa.Table, where: str) -> None:
    scores = table.column("score").to_numpy()
    bad = np.flatnonzero(~((scores >= 0.0) & (scores <= 1.0)))
    if len(bad):
        row = int(bad[0])
        raise InvalidTable(
            f"{where}, row {row + 1}, column 'score': must be a number in 0..1, but is {scores[row]} "
            f"({len(bad)} such row{'s' if len(bad) > 1 else ''})."
        )
    for name in ("cost_usd", "latency_ms", "output_chars"):
        values = table.column(name).to_numpy()
        bad = np.flatnonzero((values < 0.0) | np.isinf(values))
        if len(bad):
            row = int(bad[0])
            raise InvalidTable(
                f"{where}, row {row + 1}, column {name!r}: must be a number ≥ 0 or missing, but is {values[row]}."
            )
    for name in ("prompt_id", "model"):
        empty = pc.index(table.column(name), "").as_py()
        if empty >= 0:
            raise InvalidTable(f"{where}, row {empty + 1}, column {name!r}: must not be empty.")


def _check_pairs(table: pa.Table, where: str) -> None:
    first: dict[tuple[str, str], int] = {}
    prompts: dict[str, tuple[str, int]] = {}
    columns = (table.column(name).to_pylist() for name in ("prompt_id", "model", "prompt"))
    for row, (prompt_id, model, prompt) in enumerate(zip(*columns, strict=True), start=1):
        seen = first.setdefault((prompt_id, model), row)
        if seen != row:
            raise InvalidTable(
                f"{where}, row {row}: the pair of prompt_id {prompt_id!r} and model {model!r} was already in row {seen}; "
                "each pair may stand once."
            )
        text, before = prompts.setdefault(prompt_id, (prompt, row))
        if text != prompt:
            raise InvalidTable(
                f"{where}, row {row}, column 'prompt': prompt_id {prompt_id!r} has another text than in row {before}."
            )
