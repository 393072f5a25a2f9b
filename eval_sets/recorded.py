"""Reads CSV, TSV, JSON lines and parquet as they are: every value as it was written, rows counted from 1."""

from __future__ import annotations

import gzip
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.errors import InvalidTable

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
LINES: Final = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table and the file that it is from."""

    path: Path
    frame: pd.DataFrame

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return self.path.name.split(".")[0]

    def error(self, row: int, column: str, rule: str) -> InvalidTable:
        """Return an error that names file, row and column."""
        return InvalidTable(f"{self.path}, row {row}, column {column!r}: {rule}.")


def read_table_file(path: Path) -> TableFile:
    """Read a file by its ending; `.gz` behind it is understood.

    Raises:
        InvalidTable: The file is not there, has an ending that is not known, is damaged or empty.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    try:
        if ending in DELIMITERS:
            frame = _delimited(path, DELIMITERS[ending])
        elif ending in LINES:
            frame = _json_lines(path)
        elif ending == ".parquet":
            frame = pq.read_table(path).to_pandas()
        else:
            raise InvalidTable(
                f"{path} has an ending that is not known; use .csv, .tsv, .jsonl, .ndjson (all may have .gz) or .parquet."
            )
    except FileNotFoundError:
        raise InvalidTable(f"There is no file {path}.") from None
    except UnicodeDecodeError:
        raise InvalidTable(f"{path}, line {_undecodable(path)}: is not UTF-8 text; save the file as UTF-8.") from None
    except (OSError, EOFError, pa.ArrowInvalid, ValueError, Warning) as error:
        if isinstance(error, InvalidTable):
            raise
        raise InvalidTable(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if frame.empty:
        raise InvalidTable(f"{path} has no rows.")
    return TableFile(path, frame)


def _delimited(path: Path, delimiter: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the header
        return pd.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False, na_values=[""], index_col=False)


def _json_lines(path: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidTable(f"{path}, row {number}: is not JSON: {error}.") from None
            if not isinstance(row, dict):
                raise InvalidTable(f"{path}, row {number}: must be a JSON object, but is {type(row).__name__}.")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _undecodable(path: Path) -> int:
    """Return the number of the first line that is not UTF-8; 0 where all are."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0
