"""`collect-outcomes` as a process of its own, against a real endpoint and with the local models."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from modelyard.outcomes import read_outcomes

ROOT = Path(__file__).parents[2]
PROMPTS = [f"what is the capital of country {k}" for k in range(12)]
pytestmark = pytest.mark.slow


class Endpoint:
    """Answers and counts what was paid for; from `hold_after` answers on, calls hang until they are let go unpaid."""

    def __init__(self, hold_after: int | None = None) -> None:
        self.hold_after = hold_after
        self.paid: Counter[str] = Counter()
        self.held = 0
        self.let_go = asyncio.Event()
        self.broken: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][-1]["content"]
        if self.hold_after is not None and self.paid.total() >= self.hold_after:
            self.held += 1
            await self.let_go.wait()
            return web.Response(status=503)
        if prompt in self.broken:
            return web.json_response({"error": {"message": "cannot answer that"}}, status=400)
        self.paid[prompt] += 1
        message = {"role": "assistant", "content": f"It is City {prompt.rsplit(' ', 1)[1]}."}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"t-{k}",
            "prompt": prompt,
            "domain": "chat",
            "complexity": "simple",
            "facts": [{"pattern": f"city {k}\\b"}],
        }
        for k, prompt in enumerate(PROMPTS)
    ]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


async def start(home: Path, *options: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "MODELYARD_HOME": str(home / "yard"), "MODELYARD_CATALOG": str(home / "catalog.toml")}
    if not (home / "catalog.toml").exists():
        (home / "catalog.toml").write_text("")
    arguments = (
        "-m",
        "pipelines",
        "collect-outcomes",
        "--eval-set",
        str(home / "set"),
        "--out",
        str(home / "out.parquet"),
    )
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, *options, cwd=ROOT, env=environment, stdout=-1, stderr=-1
    )


async def run(home: Path, *options: str) -> tuple[int, str, str]:
    process = await start(home, *options)
    out, error = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, out.decode(), error.decode()


def catalog(home: Path, server: TestServer, **prices: float) -> None:
    lines = ["[models.far]", 'kind = "openai"', f'base_url = "{server.make_url("/v1")}"', "output_tokens = 1000"]
    (home / "catalog.toml").write_text("\n".join(lines + [f"{name} = {price}" for name, price in prices.items()]))


def serving(endpoint: Endpoint) -> TestServer:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    return TestServer(app)


def journal_lines(home: Path) -> int:
    path = home / "out.parquet.journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_run_that_was_killed_goes_on_and_pays_each_call_exactly_once(home: Path) -> None:
    endpoint = Endpoint(hold_after=5)
    async with serving(endpoint) as server:
        catalog(home, server, input=1.0, output=2.0)
        options = ("--models", "far", "--concurrency", "3")
        process = await start(home, *options)
        async with asyncio.timeout(120):
            while journal_lines(home) < 5 or endpoint.held < 3:
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (home / "out.parquet").exists()

        endpoint.hold_after = None
        endpoint.let_go.set()
        code, out, error = await run(home, *options, "--json", str(home / "out.json"))
    assert code == 0, error
    assert endpoint.paid == Counter(dict.fromkeys(PROMPTS, 1))
    table = read_outcomes(home / "out.parquet")
    assert table.column("score").to_pylist() == [1.0] * 12
    assert sum(table.column("cost_usd").to_pylist()) == pytest.approx(12 * 0.003)
    report: Mapping[str, Any] = json.loads((home / "out.json").read_text())
    assert (report["n"], report["results"]["resumed"]) == (12, 5)
    assert "5 answers were there already" in out


async def test_ceiling_ends_the_run_cleanly_and_a_higher_one_goes_on(home: Path) -> None:
    endpoint = Endpoint()
    async with serving(endpoint) as server:
        catalog(home, server, request=0.01)
        code, _, error = await run(home, "--models", "far", "--max-cost-usd", "0.045")
        assert code == 2
        assert "0.040000 of the ceiling of 0.045 USD are spent" in error
        assert read_outcomes(home / "out.parquet").num_rows == endpoint.paid.total() == 4
        code, _, error = await run(home, "--models", "far", "--max-cost-usd", "1")
    assert code == 0, error
    assert endpoint.paid == Counter(dict.fromkeys(PROMPTS, 1))
    assert read_outcomes(home / "out.parquet").num_rows == 12


async def test_prompt_that_a_model_cannot_answer_is_reported_and_tried_again(home: Path) -> None:
    endpoint = Endpoint()
    endpoint.broken = {PROMPTS[3]}
    async with serving(endpoint) as server:
        catalog(home, server, request=0.01)
        code, out, _ = await run(home, "--models", "far")
        assert code == 0
        assert "failed: far on t-3" in out
        assert "cannot answer that" in out
        assert read_outcomes(home / "out.parquet").num_rows == 11
        endpoint.broken = set()
        code, out, _ = await run(home, "--models", "far")
    assert code == 0
    assert endpoint.paid == Counter(dict.fromkeys(PROMPTS, 1))


async def test_nothing_is_written_where_no_model_answers(home: Path) -> None:
    endpoint = Endpoint()
    endpoint.broken = set(PROMPTS)
    async with serving(endpoint) as server:
        catalog(home, server)
        code, _, error = await run(home, "--models", "far")
    assert code == 2
    assert "No model answered any prompt; the first said" in error
    assert not (home / "out.parquet").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--models", "gpt-4-0314"), "No deployment serves the model 'gpt-4-0314'"),
        (("--models", "nobody"), "No base model is called 'nobody'"),
        (("--models", "local-sm,local-sm"), "Each model may stand once"),
        ((), "answers from a retrieval index, and none is built"),
        (("--eval-set", "nowhere"), "There is no eval set at nowhere"),
        (("--concurrency", "0"), "--concurrency must be at least 1"),
        (("--max-cost-usd", "nan"), "--max-cost-usd must be a number"),
    ],
)
async def test_bad_input_ends_with_one_sentence(home: Path, options: tuple[str, ...], sentence: str) -> None:
    code, _, error = await run(home, *options)
    assert code == 2
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert not (home / "out.parquet").exists()
