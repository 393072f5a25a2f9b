"""Importers: the layouts that they read, and the sentence for what they refuse."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from eval_sets.importers import Columns, import_long, import_routellm, import_wide, parse_mapping
from modelyard.errors import InvalidTable
from modelyard.outcomes import SCHEMA

MMLU = 'prompt,mixtral-8x7b-instruct-v0.1,gpt-4-1106-preview\n"What is, ""1 + 1""?\nA. 1\nB. 2\nAnswer:",True,True\nAgain?,False,True\n'
GSM8K = 'prompt,cheap,dear,cheap_response,dear_response\nJanet’s ducks?,True,False," 18\n",16\nA robe?,False,True,,3\n'


def text_file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_wide_table_gives_a_row_per_prompt_and_model(tmp_path: Path) -> None:
    table = import_wide(text_file(tmp_path / "scores.csv", "prompt,a,b\nhello,0.5,1\nNA,0,True\n"))
    assert table.schema == SCHEMA
    rows = table.to_pylist()
    assert [(row["prompt"], row["model"], row["score"]) for row in rows] == [
        ("hello", "a", 0.5),
        ("NA", "a", 0.0),
        ("hello", "b", 1.0),
        ("NA", "b", 1.0),
    ]
    assert {row["dataset"] for row in rows} == {row["domain"] for row in rows} == {"scores"}
    assert rows[0]["prompt_id"] == rows[2]["prompt_id"] != rows[1]["prompt_id"]


def test_companion_columns_of_a_model_are_taken_along(tmp_path: Path) -> None:
    text = "q,a,a_response,a_cost_usd,a_latency_ms\nhello,1,hi,0.01,30\nbye,0,,,\n"
    table = import_wide(text_file(tmp_path / "x.csv", text), Columns({"prompt": "q"}, "mine", "chat"))
    first, second = table.to_pylist()
    assert (first["model"], first["response"], first["cost_usd"], first["latency_ms"]) == ("a", "hi", 0.01, 30.0)
    assert (second["response"], second["cost_usd"]) == (None, None)
    assert (first["dataset"], first["domain"]) == ("mine", "chat")


def test_models_may_be_named(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", "prompt,a,b,note\nhello,1,0,seen by hand\n")
    assert import_wide(path, models=("b",)).column("model").to_pylist() == ["b"]
    with pytest.raises(InvalidTable, match="row 1, column 'note': must be a number"):
        import_wide(path)


def test_long_table_is_read_under_any_names_and_from_any_format(tmp_path: Path) -> None:
    rows = [
        {"question": "hello", "llm": "a", "grade": True, "ms": 12},
        {"question": "hello", "llm": "b", "grade": 0.25, "ms": None},
    ]
    mapping = parse_mapping(["prompt=question", "model=llm", "score=grade", "latency_ms=ms"])
    lines = "\n".join(map(json.dumps, rows)) + "\n\n"
    text_file(tmp_path / "t.jsonl", lines)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pd.DataFrame(rows).astype({"grade": float}).to_parquet(tmp_path / "t.parquet")
    text_file(tmp_path / "t.tsv", "question\tllm\tgrade\tms\nhello\ta\tTRUE\t12\nhello\tb\t0.25\t\n")
    tables = [
        import_long(tmp_path / name, Columns(mapping)) for name in ("t.jsonl", "t.jsonl.gz", "t.parquet", "t.tsv")
    ]
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].column("score").to_pylist() == [1.0, 0.25]
    assert tables[0].column("latency_ms").to_pylist() == [12.0, None]
    assert len(set(tables[0].column("prompt_id").to_pylist())) == 1


def test_repeated_prompt_of_a_wide_table_stays_two_prompts_and_of_a_long_one_is_refused(tmp_path: Path) -> None:
    wide = import_wide(text_file(tmp_path / "wide.csv", "prompt,a\nsame,1\nsame,0\n"))
    assert len(set(wide.column("prompt_id").to_pylist())) == 2
    with pytest.raises(InvalidTable, match="row 2: the pair of prompt_id"):
        import_long(text_file(tmp_path / "long.csv", "prompt,model,score\nsame,a,1\nsame,a,0\n"))


def test_routellm_mmlu_folder_and_gsm8k_file_are_read(tmp_path: Path) -> None:
    text_file(tmp_path / "mmlu" / "responses" / "mmlu_abstract_algebra.csv", MMLU)
    text_file(tmp_path / "gsm8k" / "gsm8k_responses.csv", GSM8K)
    table = import_routellm(tmp_path)
    rows = table.to_pylist()
    assert {(row["dataset"], row["domain"]) for row in rows} == {("mmlu", "abstract_algebra"), ("gsm8k", "gsm8k")}
    assert {row["model"] for row in rows if row["dataset"] == "mmlu"} == {
        "mixtral-8x7b-instruct-v0.1",
        "gpt-4-1106-preview",
    }
    assert next(row["prompt"] for row in rows if row["dataset"] == "mmlu") == 'What is, "1 + 1"?\nA. 1\nB. 2\nAnswer:'
    janet = next(row for row in rows if row["model"] == "cheap" and row["prompt"].startswith("Janet"))
    assert (janet["score"], janet["response"]) == (1.0, " 18\n")
    assert import_routellm(tmp_path / "mmlu" / "responses").num_rows == 4
    assert import_routellm(tmp_path / "gsm8k" / "gsm8k_responses.csv").num_rows == 4


def test_contaminated_prompts_are_left_out(tmp_path: Path) -> None:
    text_file(tmp_path / "mmlu" / "responses" / "mmlu_x.csv", MMLU)
    listed = text_file(tmp_path / "mmlu" / "contaminated_prompts.jsonl", json.dumps({"eval_prompt": "Again?"}) + "\n")
    assert import_routellm(tmp_path / "mmlu").num_rows == 2
    listed.write_text('{"prompt": "Again?"}\n')
    with pytest.raises(InvalidTable, match="eval_prompt"):
        import_routellm(tmp_path / "mmlu")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("question,a\nx,1\n", r"lacks the column 'prompt'; name it with --map prompt=COLUMN; it has question, a"),
        ("prompt\nx\n", "has no score column"),
        ("prompt,a\nx,1\ny,maybe\n", "row 2, column 'a': must be a number, True or False, but is 'maybe'"),
        ("prompt,a\nx,1\ny,\n", "row 2, column 'a': a score must be .* but it is missing"),
        ("prompt,a\nx,nan\n", "row 1, column 'a': .* but it is nan"),
        ("prompt,a\nx,85\n", "row 1, column 'a': .* but it is 85"),
        ("prompt,a\n,1\n", "row 1, column 'prompt': a value is required"),
        ("prompt,a\n", "has no rows"),
        ("", "cannot be read: No columns"),
        ("prompt,a\nx,1,2\n", "cannot be read"),
    ],
)
def test_broken_wide_tables_are_refused_with_file_row_and_column(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidTable, match=sentence) as caught:
        import_wide(text_file(tmp_path / "bad.csv", text))
    assert "bad.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.jsonl", b'{"prompt": "x"}\n{', "row 2: is not JSON"),
        ("t.jsonl", b"[1]\n", "row 1: must be a JSON object, but is list"),
        ("t.parquet", b"no", "cannot be read"),
        ("t.csv", b"prompt,a\n\xff,1\n", "line 2: is not UTF-8"),
        ("t.csv.gz", b"plain", "cannot be read"),
        ("t.xlsx", b"", "has an ending that is not known"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidTable, match=sentence):
        import_long(tmp_path / name)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable, match="There is no file"):
        import_wide(tmp_path / "nothing.csv")
    with pytest.raises(InvalidTable, match="has no RouteLLM responses"):
        import_routellm(tmp_path)


def test_mapping_to_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", "prompt,a\nx,1\n")
    with pytest.raises(InvalidTable, match=r"lacks the column 'topic' \(for 'domain'\)"):
        import_wide(path, Columns({"domain": "topic"}))


@pytest.mark.parametrize("pair", ["prompt", "prompt=", "question=prompt"])
def test_broken_mappings_are_refused(pair: str) -> None:
    with pytest.raises(InvalidTable, match="OUTCOME_COLUMN=FILE_COLUMN"):
        parse_mapping([pair])
