"""`modelyard batch` over a real server of files and batches, and over one that has none."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from modelyard.cli import main
from modelyard.control.keys import KeyRing
from modelyard.settings import Settings
from modelyard.storage import Database, ModelUsage
from tests.unit.serving.yard import Script, StubUpstream, stub_upstream
from tests.unit.upstream.batch_server import BatchServer, batch_server

CATALOGUE = """
[models.gpt]
kind = "openai"
base_url = "{url}"
upstream_model = "gpt-mini"
input = 1
output = 2
cached_input = 0.5
max_output_tokens = 100
{more}

[models.vec]
kind = "openai"
base_url = "{url}"
input = 1
output = 0
embeddings = true
"""


@contextmanager
def in_thread() -> Iterator[BatchServer]:
    loop, up, down = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found = list[BatchServer]()

    async def serve() -> None:
        async with batch_server() as server:
            found.append(server)
            up.set()
            await down.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert up.wait(30)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(30)
        loop.close()


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with in_thread() as server:
        server.polls = 1
        yield server


@pytest.fixture
def stub() -> Iterator[StubUpstream]:
    with stub_upstream() as stub:
        yield stub


def ask(*texts: str, **body: Any) -> str:
    rows = [
        {"custom_id": f"r{n}", "messages": [{"role": "user", "content": text}], **body} for n, text in enumerate(texts)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


class Yard:
    """A home and its catalogue, in which the command runs."""

    def __init__(self, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.settings, self._monkeypatch = folder, settings, monkeypatch
        self.out = folder / "out.jsonl"

    def furnish(self, url: str, more: str = "") -> None:
        catalogue = self.folder / "catalogue.toml"
        catalogue.write_text(CATALOGUE.format(url=url, more=more), "utf-8")
        self.settings = self.settings.model_copy(update={"catalog": catalogue})
        self._monkeypatch.setattr("modelyard.cli.batch.current", lambda: self.settings)

    def batch(self, requests: str | None, *options: str, model: str = "gpt") -> tuple[int, dict[str, Any]]:
        """Run the command, and return its code and its facts."""
        path, facts = self.folder / "in.jsonl", self.folder / "facts.json"
        if requests is not None:
            path.write_text(requests, "utf-8")
        facts.unlink(missing_ok=True)
        words = ["batch", str(path), "--model", model, "--out", str(self.out), "--json", str(facts), "--every", "0.01"]
        code = main([*words, *options])
        return code, json.loads(facts.read_text("utf-8")) if facts.exists() else {}

    def answers(self) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.out.read_text("utf-8").splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        return {line["custom_id"]: line for line in lines}

    def rows(self) -> list[ModelUsage]:
        database = Database(self.settings.database)
        with database.read() as session:
            found = list(session.scalars(select(ModelUsage)))
            session.expunge_all()
        database.close()
        return found


@pytest.fixture
def yard(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Yard:
    return Yard(tmp_path, settings, monkeypatch)


def text_of(line: dict[str, Any]) -> str:
    return line["response"]["body"]["choices"][0]["message"]["content"]


def test_requests_go_in_and_answers_come_out_at_the_batch_price(
    yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.furnish(server.base_url, "batch_price_factor = 0.5")
    code, facts = yard.batch(ask("say yes", "cached say no"))
    assert code == 0
    assert {name: text_of(line) for name, line in yard.answers().items()} == {"r0": "yes", "r1": "no"}
    # 7 and 13 prompt tokens, 4 of them cached, and 1 written each.
    cost = 0.5 * (7 + 2 + 9 + 2 + 2) / 1e6
    found = facts["results"]
    assert (found["answered"], found["failed"], found["price_factor"]) == (2, 0, 0.5)
    assert (found["cost_usd"], found["cached_tokens"]) == (pytest.approx(cost), 4)
    rows = yard.rows()
    assert {(row.kind, row.model, row.deployment, row.status) for row in rows} == {("batch", "gpt", "gpt", "complete")}
    assert sum(row.cost_usd for row in rows) == pytest.approx(cost)
    said = capsys.readouterr()
    assert "2 of 2 requests answered by gpt" in said.out
    assert "batch batch_0: completed, 2 of 2 answered, 0 failed" in said.err
    assert json.loads(server.files["file-0"].splitlines()[0])["body"]["model"] == "gpt-mini"


def test_batches_cost_the_full_price_where_nothing_else_is_known(yard: Yard, server: BatchServer) -> None:
    yard.furnish(server.base_url)
    _, facts = yard.batch(ask("say yes"))
    assert facts["results"]["cost_usd"] == pytest.approx(9e-6)


def test_failed_requests_are_told_and_tried_again_by_the_same_command(yard: Yard, server: BatchServer) -> None:
    yard.furnish(server.base_url)
    code, facts = yard.batch(ask("say yes", "refuse", "expire"))
    assert code == 1
    assert facts["results"]["failures"] == [
        {"custom_id": "r1", "reason": "It was refused."}, {"custom_id": "r2", "reason": "It ran out of time."},
    ]  # fmt: skip
    assert yard.answers()["r1"]["error"]["message"] == "It was refused."
    code, facts = yard.batch(None)
    assert (code, facts["results"]["resumed"]) == (1, 1)
    assert len(server.files["file-3"].splitlines()) == 2, "what was answered is not sent again"
    assert [row.status for row in yard.rows()].count("complete") == 1


def test_finished_batch_is_not_sent_again(yard: Yard, server: BatchServer) -> None:
    yard.furnish(server.base_url)
    yard.batch(ask("say yes"))
    code, facts = yard.batch(None)
    assert (code, facts["results"]["answered"], facts["results"]["batches"]) == (0, 1, [])
    assert len(server.batches) == len(yard.rows()) == 1


def test_batch_that_nobody_waits_for_is_taken_home_later(yard: Yard, server: BatchServer) -> None:
    server.polls = 2
    yard.furnish(server.base_url)
    code, facts = yard.batch(ask("say yes"), "--no-wait")
    assert (code, facts["results"]["unanswered"]) == (0, 1)
    code, facts = yard.batch(None, "--no-wait")
    assert (code, facts["results"]["answered"]) == (0, 1)
    assert len(server.batches) == 1


def test_interrupted_batch_goes_on_where_it_was(yard: Yard, server: BatchServer) -> None:
    server.polls, server.broken_line = 1, b"not json"  # taking the answers home breaks off behind the first two
    yard.furnish(server.base_url)
    assert yard.batch(ask("say yes", "say no"))[0] == 2
    server.broken_line = None
    server.files["file-1"] = server.files["file-1"].removesuffix(b"\nnot json")
    with yard.out.open("ab") as file:
        file.write(b'{"custom_id": "r1", "resp')  # as a kill leaves it
    code, facts = yard.batch(None)
    assert (code, facts["results"]["answered"]) == (0, 2)
    assert len(server.batches) == 1
    assert len(yard.rows()) == 2


def test_usage_that_was_not_recorded_is_recorded_by_the_next_run(yard: Yard, server: BatchServer) -> None:
    yard.furnish(server.base_url)
    yard.batch(ask("say yes"))
    yard.settings = yard.settings.model_copy(update={"database_url": f"sqlite:///{yard.folder / 'other.db'}"})
    yard.batch(None)
    assert [row.cost_usd for row in yard.rows()] == [pytest.approx(9e-6)]


def test_ceiling_is_kept_and_what_fits_is_answered(
    yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.furnish(server.base_url)
    # Each may cost up to 6 + 2 × 100 millionths, and costs 9: one fits at first, and more when its real cost is known.
    code, facts = yard.batch(ask("say yes", "say yes", "say yes"), "--max-cost-usd", "0.00022")
    assert code == 2
    assert (facts["results"]["answered"], facts["results"]["unanswered"]) == (2, 1)
    assert facts["results"]["cost_usd"] <= 0.00022
    assert "would pass the ceiling of 0.00022 USD" in facts["results"]["stopped"]
    assert "would pass the ceiling" in capsys.readouterr().err


def test_project_is_charged(yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str]) -> None:
    yard.furnish(server.base_url)
    database = Database(yard.settings.database)
    database.migrate()
    ring = KeyRing(database)
    ring.create("shop", "key", ["chat"])
    [facts] = ring.list()
    ring.close()
    database.close()
    assert yard.batch(ask("say yes"), "--project", "shop")[0] == 0
    [row] = yard.rows()
    assert row.project_id is not None
    assert facts.project in {"shop", row.project_id}
    assert yard.batch(None, "--project", "shoe")[0] == 2
    assert "No project is called 'shoe'" in capsys.readouterr().err


def test_endpoint_without_batches_is_said_and_sent_to_one_by_one_where_asked(
    yard: Yard, stub: StubUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.furnish(f"{stub.url}/v1", "batch_price_factor = 0.5")
    assert yard.batch(ask("a", "b", "c"))[0] == 2
    said = capsys.readouterr().err
    assert (
        "has no batch API (status 404): --without-batch-api sends the requests one by one, at the full price." in said
    )
    assert stub.raw == []
    code, facts = yard.batch(None, "--without-batch-api")
    assert (code, facts["results"]["answered"], facts["results"]["price_factor"]) == (0, 3, 1.0)
    assert {text_of(line) for line in yard.answers().values()} == {"Use flexbox ☂."}
    assert [(row.kind, row.prompt_tokens, row.cost_usd) for row in yard.rows()] == [
        ("batch", 10, pytest.approx(18e-6))
    ] * 3
    yard.batch(None, "--without-batch-api")
    assert (len(stub.raw), len(yard.rows())) == (3, 3), "what was answered is not asked again"


def test_one_by_one_a_refused_request_fails_alone_and_a_wrong_key_ends_it(
    yard: Yard, stub: StubUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.furnish(f"{stub.url}/v1")
    stub.scripts["gpt-mini"] = Script(status=400, error={"message": "too odd"})
    code, facts = yard.batch(ask("a", "b"), "--without-batch-api")
    assert (code, facts["results"]["failed"]) == (1, 2)
    assert "too odd" in facts["results"]["failures"][0]["reason"]
    stub.scripts["gpt-mini"] = Script(status=401)
    capsys.readouterr()
    assert yard.batch(None, "--without-batch-api")[0] == 2
    assert "status 401" in capsys.readouterr().err
    stub.scripts["gpt-mini"] = Script()
    assert yard.batch(None, "--without-batch-api")[0] == 0
    assert sorted(row.status for row in yard.rows()) == ["complete", "complete", "failed", "failed"]


def test_one_by_one_keeps_the_ceiling(yard: Yard, stub: StubUpstream) -> None:
    yard.furnish(f"{stub.url}/v1")
    code, facts = yard.batch(ask(*"abcdefgh"), "--without-batch-api", "--max-cost-usd", "0.00025")
    found = facts["results"]
    assert code == 2
    assert 0 < found["answered"] < 8
    assert found["cost_usd"] <= 0.00025


def test_lines_of_openais_batch_files_and_bodies_alone_are_read(yard: Yard, server: BatchServer) -> None:
    yard.furnish(server.base_url)
    body = {"model": "other", "messages": [{"role": "user", "content": "say yes"}]}
    lines = [{"custom_id": "own", "method": "POST", "url": "/v1/chat/completions", "body": body}, body]
    assert yard.batch("\n".join(map(json.dumps, lines)))[0] == 0
    assert set(yard.answers()) == {"own", "line-2"}


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ("", "holds no request"),
        ("nonsense", "line 1: it is not JSON"),
        ('{"messages": []}', "line 1: a request for this model needs messages"),
        ('{"input": "a"}', "needs messages"),
        ('{"messages": "a"}', "needs messages"),
        (ask("a") + "\n" + ask("b"), "line 3: the custom_id 'r0' is taken already"),
        (ask("a", stream=True), "cannot stream"),
        ('{"custom_id": 7, "messages": [1]}', "custom_id must be a text"),
        ("[1]", "needs messages"),
    ],
)
def test_requests_that_are_none_are_refused_before_anything_is_sent(
    yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str], requests: str, said: str
) -> None:
    yard.furnish(server.base_url)
    assert yard.batch(requests)[0] == 2
    assert said in capsys.readouterr().err
    assert server.headers == []


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        ((), "local-md", "needs a model behind an endpoint, and 'local-md' has none"),
        ((), "gpt-9", "No base model is called 'gpt-9'"),
        (("--deployment", "gpt/west"), "gpt", "has no deployment 'gpt/west'; there are gpt."),
        (("--max-cost-usd", "nan"), "gpt", "--max-cost-usd must be a number ≥ 0"),
        (("--every", "0"), "gpt", "--every must be"),
        (("--concurrency", "0"), "gpt", "--concurrency must be 1 to 64"),
        (("--without-batch-api",), "vec", "--without-batch-api is for chat"),
    ],
)
def test_options_that_cannot_be_are_refused(
    yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], model: str, said: str
) -> None:
    yard.furnish(server.base_url)
    assert yard.batch(ask("a"), *options, model=model)[0] == 2
    assert said in capsys.readouterr().err


def test_answers_of_other_requests_are_left_alone(
    yard: Yard, server: BatchServer, capsys: pytest.CaptureFixture[str]
) -> None:
    yard.furnish(server.base_url)
    yard.batch(ask("say yes"))
    before = yard.out.read_bytes()
    assert yard.batch(ask("say no"))[0] == 2
    assert "was begun for other requests or another model" in capsys.readouterr().err
    assert yard.out.read_bytes() == before
    for foreign in ("a shopping list\n", "milk", "{}\n"):
        yard.out = yard.folder / "list.txt"
        yard.out.write_text(foreign)
        assert yard.batch(ask("say yes"))[0] == 2
        assert "line 1 is no answer" in capsys.readouterr().err
        assert yard.out.read_text() == foreign
