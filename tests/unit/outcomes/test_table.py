from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.errors import InvalidTable
from modelyard.outcomes import OPTIONAL, REQUIRED, SCHEMA, concat, read_outcomes, validate, write_outcomes
from tests.unit.outcomes.rows import columns, outcomes

NAN, INF = float("nan"), float("inf")
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "score NaN": ({"score": [0.1, NAN, 0.5, 0.5, 0.5]}, r"row 2, column 'score': .* is nan \(1 such row\)"),
    "score below 0": ({"score": [0.1, 0.2, -0.01, 0.5, -2.0]}, r"row 3, column 'score': .* is -0.01 \(2 such rows\)"),
    "score above 1": ({"score": [0.1, 0.2, 0.3, 0.4, 1.5]}, r"row 5, column 'score': must be a number in 0..1"),
    "score missing": ({"score": [0.1, None, 0.5, 0.5, 0.5]}, r"row 2, column 'score': a value is required"),
    "score text": ({"score": ["good"] * 5}, r"column 'score' must be a number, but is string"),
    "prompt a number": ({"prompt": [1, 2, 3, 4, 5]}, r"column 'prompt' must be text, but is int64"),
    "model missing": ({"model": ["a", "b", "a", None, "a"]}, r"row 4, column 'model': a value is required"),
    "model empty": ({"model": ["a", "b", "", "b", "a"]}, r"row 3, column 'model': must not be empty"),
    "prompt_id empty": ({"prompt_id": ["", "", "p2", "p2", "p3"]}, r"row 1, column 'prompt_id': must not be empty"),
    "cost negative": ({"cost_usd": [0.1, None, -1.0, 0.0, 0.0]}, r"row 3, column 'cost_usd': must be a number ≥ 0"),
    "latency infinite": ({"latency_ms": [INF, 1.0, 1.0, 1.0, 1.0]}, r"row 1, column 'latency_ms'"),
    "length negative": ({"output_chars": [1, 2, 3, 4, -5]}, r"row 5, column 'output_chars'"),
    "pair repeated": (
        {"model": ["small", "big", "small", "small", "small"]},
        r"row 4: the pair of prompt_id 'p2' and model 'small' was already in row 3",
    ),
    "two texts for one id": (
        {"prompt": ["one", "two", "Why?", "Why?", "x"]},
        r"row 2, column 'prompt': prompt_id 'p1' has another text than in row 1",
    ),
}


@pytest.mark.parametrize(("changes", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_table_is_refused_with_file_row_and_column(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "outcomes.parquet"
    pq.write_table(outcomes(**changes), path)

    with pytest.raises(InvalidTable, match=said) as caught:
        read_outcomes(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_column_is_named(name: str) -> None:
    with pytest.raises(InvalidTable, match=f"^mine lacks the column '{name}'"):
        validate(outcomes(**{name: None}), "mine")


def test_table_without_rows_is_refused() -> None:
    with pytest.raises(InvalidTable, match="mine has no rows"):
        validate(outcomes().slice(0, 0), "mine")


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match=r"There is no outcome table .*nowhere.parquet"):
        read_outcomes(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("content", [b"", b"prompt_id,model,score\n", b"PAR1 and then nothing PAR1"])
def test_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(content)

    with pytest.raises(InvalidTable, match=r"table\.parquet is not a parquet file"):
        read_outcomes(path)


def test_written_table_is_read_back_in_the_columns_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "outcomes.parquet"
    write_outcomes(outcomes(cost_usd=[0.1, None, 0.0, 0.2, None]), path)
    table = read_outcomes(path)

    assert table.schema.names == SCHEMA.names
    assert table.select(list(REQUIRED)).to_pydict() == columns()
    assert table["cost_usd"].to_pylist() == [0.1, None, 0.0, 0.2, None]
    assert all(table[name].null_count == 5 for name in OPTIONAL if name != "cost_usd")
    assert [file.name for file in path.parent.iterdir()] == ["outcomes.parquet"]


def test_refused_table_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    write_outcomes(outcomes(), path)
    before = path.read_bytes()

    with pytest.raises(InvalidTable, match="column 'score'"):
        write_outcomes(outcomes(score=[2.0] * 5), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("scores", [[True, False, True, True, False], [1, 0, 1, 1, 0]])
def test_whole_and_true_or_false_scores_become_numbers(scores: list[Any]) -> None:
    assert validate(outcomes(score=scores), "mine")["score"].to_pylist() == [1.0, 0.0, 1.0, 1.0, 0.0]


def test_dictionary_and_large_text_columns_become_text() -> None:
    models = pa.array(columns()["model"]).dictionary_encode()
    prompts = pa.array(columns()["prompt"], type=pa.large_string())

    assert validate(outcomes(model=models, prompt=prompts), "mine").select(list(REQUIRED)).to_pydict() == columns()


def test_columns_beyond_the_schema_are_left_out() -> None:
    assert validate(outcomes(note=["?"] * 5), "mine").schema.names == SCHEMA.names


def test_pair_repeated_across_tables_is_refused() -> None:
    table = validate(outcomes(), "mine")

    assert concat([table.slice(0, 2), table.slice(2)], "both").num_rows == 5
    with pytest.raises(InvalidTable, match="both, row 6: the pair of prompt_id 'p1' and model 'small'"):
        concat([table, table.slice(0, 1)], "both")
