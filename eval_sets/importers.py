"""Turns recorded results into outcome tables: long and wide tables of any origin, and RouteLLM's published response CSVs.

    long   one row per prompt × model; the columns are those of an outcome table, under any names
    wide   one row per prompt; one score column per model, and beside it, where recorded, `<model>_response`, `<model>_cost_usd`,
           `<model>_latency_ms`, `<model>_output_chars`

RouteLLM (lm-sys/RouteLLM, `routellm/evals`) publishes wide tables: `mmlu/responses/mmlu_<subject>.csv` with `prompt` and True or False
under each model's name, and `gsm8k/gsm8k_responses.csv` with the responses, too. Its `contaminated_prompts.jsonl` lists prompts that its
routers were trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from eval_sets.recorded import TableFile, read_table_file
from modelyard.errors import InvalidTable
from modelyard.outcomes import OPTIONAL, SCHEMA, concat, validate

NUMBERS: Final = ("score", "cost_usd", "latency_ms", "output_chars")
TRUTH: Final = {"true": 1.0, "false": 0.0}
SHARED: Final = ("prompt_id", "dataset", "domain", "prompt")  # in a wide table: what a row says of all its models
CONTAMINATED: Final = "contaminated_prompts.jsonl"


@dataclass(frozen=True, slots=True)
class Columns:
    """How a file's columns become an outcome table's.

    Attributes:
        names: Outcome column → the file's column, where the two differ.
        dataset: What stands in `dataset` where the file has no such column; None: the file's stem.
        domain: What stands in `domain` where the file has no such column; None: the dataset.
    """

    names: Mapping[str, str] = field(default_factory=dict[str, str])
    dataset: str | None = None
    domain: str | None = None


def import_long(path: Path, columns: Columns | None = None) -> pa.Table:
    """Read a table with one row per prompt × model.

    A missing `prompt_id` is made from the dataset and a hash of the prompt.

    Raises:
        InvalidTable: The file cannot be read, lacks a column, or has a value that breaks a rule; names file, row and column.
    """
    source = _Source(read_table_file(path), columns or Columns())
    values = {name: source.column(name) for name in (*SHARED[1:], "model")}
    values["prompt_id"] = source.column("prompt_id") if source.has("prompt_id") else _ids(values, repeats=False)
    values["score"] = source.scores()
    for name in OPTIONAL:
        if source.has(name):
            values[name] = source.numbers(name) if name in NUMBERS else source.texts(name)
    return _table(values, str(path))


def import_wide(path: Path, columns: Columns | None = None, models: Sequence[str] = ()) -> pa.Table:
    """Read a table with one row per prompt and one score column per model.

    Args:
        path: The file.
        columns: How its columns are called.
        models: The score columns, which are the models' names; without any, every column that is neither mapped nor a model's companion.

    Raises:
        InvalidTable: The file cannot be read, lacks a column, or has a value that breaks a rule; names file, row and column.
    """
    source = _Source(read_table_file(path), columns or Columns())
    names = tuple(models) or source.score_columns()
    if not names:
        raise InvalidTable(f"{path} has no score column: a wide table needs one column per model beside the prompt.")
    shared = {name: source.column(name) for name in SHARED[1:]}
    shared["prompt_id"] = source.column("prompt_id") if source.has("prompt_id") else _ids(shared, repeats=True)
    parts = [_table(shared | _of_model(source, model), str(path)) for model in names]
    return concat(parts, str(path))


def import_routellm(path: Path) -> pa.Table:
    """Read RouteLLM's responses: one CSV file, the folder `mmlu/responses`, or any folder above both benchmarks.

    Prompts that a `contaminated_prompts.jsonl` beside or above a file lists are left out, as RouteLLM's own evaluation does.

    Raises:
        InvalidTable: There is no such file, or one cannot be read; names file, row and column.
    """
    files = [path] if path.is_file() else sorted((*path.rglob("mmlu_*.csv"), *path.rglob("gsm8k_responses.csv")))
    if not files:
        raise InvalidTable(f"{path} has no RouteLLM responses: expected mmlu_<subject>.csv or gsm8k_responses.csv.")
    tables: list[pa.Table] = []
    for file in files:
        subject = file.stem.removeprefix("mmlu_").removesuffix("_responses")
        dataset = "mmlu" if file.stem.startswith("mmlu_") else subject
        table = import_wide(file, Columns(dataset=dataset, domain=subject))
        tables.append(_without(table, _contaminated(file)))
    return concat(tables, str(path))


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Read `outcome column=file column` pairs, as from `--map prompt=question`.

    Raises:
        InvalidTable: A pair has another form, or names no column of an outcome table.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column or name not in SCHEMA.names:
            raise InvalidTable(
                f"A mapping must be OUTCOME_COLUMN=FILE_COLUMN with an outcome column of {', '.join(SCHEMA.names)}; got {pair!r}."
            )
        mapping[name] = column
    return mapping


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's table, seen through the mapping."""

    file: TableFile
    columns: Columns

    def name(self, column: str) -> str:
        return self.columns.names.get(column, column)

    def has(self, column: str) -> bool:
        if column in self.columns.names and self.name(column) not in self.file.frame.columns:
            raise self._lacks(column)
        return self.name(column) in self.file.frame.columns

    def column(self, column: str) -> list[Any]:
        """Return a column of text that must be there: from the file, or the constant that stands for it."""
        if not self.has(column) and column in ("dataset", "domain"):
            dataset = self.columns.dataset or self.file.stem
            constant = dataset if column == "dataset" else self.columns.domain or dataset
            return [constant] * len(self.file.frame)
        values = self.texts(column)
        for row, value in enumerate(values, start=1):
            if value is None:
                raise self.file.error(row, self.name(column), "a value is required, but it is missing")
        return values

    def texts(self, column: str) -> list[str | None]:
        if not self.has(column):
            raise self._lacks(column)
        return [None if _missing(value) else str(value) for value in self.file.frame[self.name(column)]]

    def numbers(self, column: str) -> list[float | None]:
        if not self.has(column):
            raise self._lacks(column)
        name = self.name(column)
        return [self._number(value, row, name) for row, value in enumerate(self.file.frame[name], start=1)]

    def scores(self) -> list[float]:
        name, scores = self.name("score"), list[float]()
        for row, value in enumerate(self.numbers("score"), start=1):
            if value is None or not 0.0 <= value <= 1.0:
                found = "is missing" if value is None else f"is {value:g}"
                raise self.file.error(row, name, f"a score must be a number in 0..1, True or False, but it {found}")
            scores.append(value)
        return scores

    def score_columns(self) -> tuple[str, ...]:
        taken = {self.name(column) for column in SHARED}
        names = [str(name) for name in self.file.frame.columns if name not in taken]
        companions = {f"{model}_{extra}" for model in names for extra in OPTIONAL}
        return tuple(name for name in names if name not in companions)

    def _number(self, value: Any, row: int, column: str) -> float | None:
        if _missing(value):
            return None
        text = str(value).strip()
        if text.lower() in TRUTH:
            return TRUTH[text.lower()]
        try:
            return float(text)
        except ValueError:
            raise self.file.error(row, column, f"must be a number, True or False, but is {text[:60]!r}") from None

    def _lacks(self, column: str) -> InvalidTable:
        wanted = self.name(column)
        hint = f" (for {column!r})" if wanted != column else f"; name it with --map {column}=COLUMN"
        has = ", ".join(map(str, self.file.frame.columns))
        return InvalidTable(f"{self.file.path} lacks the column {wanted!r}{hint}; it has {has}.")


def _of_model(source: _Source, model: str) -> dict[str, list[Any]]:
    seen = _Source(source.file, Columns({"score": model} | {name: f"{model}_{name}" for name in OPTIONAL}))
    values: dict[str, list[Any]] = {"model": [model] * len(source.file.frame), "score": seen.scores()}
    for name in OPTIONAL:
        if f"{model}_{name}" in source.file.frame.columns:
            values[name] = seen.numbers(name) if name in NUMBERS else seen.texts(name)
    return values


def _table(values: Mapping[str, list[Any]], where: str) -> pa.Table:
    fields = [SCHEMA.field(name) for name in SCHEMA.names if name in values]
    arrays = [pa.array(values[field.name], field.type) for field in fields]
    return validate(pa.table(arrays, names=[field.name for field in fields]), where)


def _ids(values: Mapping[str, list[Any]], *, repeats: bool) -> list[str]:
    """Make ids of dataset, domain and prompt; with `repeats`, each further row of the same prompt gets a number."""
    seen: Counter[str] = Counter()
    ids: list[str] = []
    for dataset, domain, prompt in zip(values["dataset"], values["domain"], values["prompt"], strict=True):
        digest = hashlib.sha256("\n".join((domain, prompt)).encode()).hexdigest()
        name = f"{dataset}/{digest[:12]}"
        seen[name] += 1
        ids.append(f"{name}-{seen[name]}" if repeats and seen[name] > 1 else name)
    return ids


def _without(table: pa.Table, prompts: frozenset[str]) -> pa.Table:
    keep = [prompt not in prompts for prompt in table.column("prompt").to_pylist()]
    return table.filter(pa.array(keep))


def _contaminated(file: Path) -> frozenset[str]:
    listed = next(
        (path for path in (folder / CONTAMINATED for folder in file.resolve().parents[:2]) if path.is_file()), None
    )
    if listed is None:
        return frozenset()
    try:
        return frozenset(
            json.loads(line)["eval_prompt"] for line in listed.read_text("utf-8").splitlines() if line.strip()
        )
    except (ValueError, KeyError, TypeError):
        raise InvalidTable(f'{listed} must hold one {{"eval_prompt": …}} a line.') from None


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) or value == ""
