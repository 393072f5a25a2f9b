"""The Overview page as a reviewer reads it."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from modelyard.settings import Settings
from tests.unit.dashboards.sample import VERDICT, demo_report, serve_answers, write_report

ROOT = Path(__file__).parents[2]
STARTS_IN_S = 90
DRAWS_IN_MS = 45_000  # the first visit imports pandas and Altair
Start = Callable[[Settings], str]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the dashboards on a home and return their address."""
    running: list[subprocess.Popen[bytes]] = []

    def run(settings: Settings) -> str:
        port = free_port()
        log = (tmp_path / "streamlit.log").open("wb")
        command = [sys.executable, "-m", "streamlit", "run", "dashboards/app.py", "--server.port", str(port)]
        environment = os.environ | {"MODELYARD_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT))
        log.close()
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address, running[-1], tmp_path / "streamlit.log")
        return address

    yield run
    for process in running:
        process.terminate()
        process.wait(timeout=20)


def test_reviewer_reads_performance_retrieval_and_cost(settings: Settings, start: Start, page: Page):
    write_report(settings, demo_report())
    serve_answers(settings, ("local-sm", 0.001, 10.0), ("local-md", 0.004, 40.0), ("local-sm", 0.002, 30.0))

    page.goto(start(settings))

    policies = table(page, "Policy")
    expect(policies).to_contain_text("champion", timeout=DRAWS_IN_MS)
    assert rows(policies)[0] == ["learned", "champion", "0.655", "0.615 to 0.695", "0.0312", "0.0281 to 0.0343"]
    assert [row[0] for row in rows(policies)] == ["learned", "static:local-md", "cheapest"]
    assert rows(table(page, "Label"))[0] == ["domain", "0.812", "0.830", "0.031", "0.021", "0.093"]
    assert rows(table(page, "Among the first")) == [
        ["1", "0.571", "0.531 to 0.611"],
        ["5", "0.823", "0.783 to 0.863"],
        ["10", "0.900", "0.860 to 0.940"],
    ]
    expect(page.get_by_text(VERDICT.sentence)).to_be_visible()
    expect(page.get_by_text("over 204 questions")).to_be_visible()
    assert rows(table(page, "Model", "Prompts")) == [["local-sm", "240", "0.002400"], ["local-md", "120", "0.006100"]]
    assert rows(table(page, "Model", "Requests"))[1] == ["local-sm", "2", "200", "40", "0.003000", "20", "29"]


def test_charts_are_drawn_and_say_in_words_what_they_show(settings: Settings, start: Start, page: Page):
    write_report(settings, demo_report())

    page.goto(start(settings))

    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(3, timeout=DRAWS_IN_MS)
    expect(charts.locator("svg, canvas")).to_have_count(3, timeout=DRAWS_IN_MS)
    said = page.get_by_label(re.compile("Score with 95 % interval: learned 0.655 \\(0.615 to 0.695\\)"))
    expect(said.first).to_be_attached()


def test_headings_go_down_one_level_at_a_time(settings: Settings, start: Start, page: Page):
    write_report(settings, demo_report())

    page.goto(start(settings))

    expect(page.get_by_role("heading", name="Of serving")).to_be_visible(timeout=DRAWS_IN_MS)
    levels = [int(tag[1]) for tag in page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(e => e.tagName)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_empty_home_says_which_command_fills_the_page(settings: Settings, start: Start, page: Page):
    page.goto(start(settings))

    expect(page.get_by_text("No results yet in")).to_contain_text("make demo", timeout=DRAWS_IN_MS)
    expect(page.get_by_text("Nothing served yet")).to_be_visible()


def test_broken_report_is_told_and_the_served_cost_still_stands(settings: Settings, start: Start, page: Page):
    write_report(settings, demo_report() | {"schema": 2})
    serve_answers(settings, ("local-sm", 0.001, 10.0))

    page.goto(start(settings))

    expect(page.get_by_role("alert")).to_contain_text("demo.json cannot be read", timeout=DRAWS_IN_MS)
    assert rows(table(page, "Model", "Requests"))[0][0] == "local-sm"


def table(page: Page, *columns: str) -> Locator:
    """The table whose heading row begins with these columns."""
    found = page.get_by_role("table")
    for column in columns:
        found = found.filter(has=page.get_by_role("columnheader", name=column, exact=True))
    return found


def rows(found: Locator) -> list[list[str]]:
    expect(found).to_have_count(1)
    return found.evaluate("table => [...table.tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText.trim()))")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_IN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"the dashboards did not start within {STARTS_IN_S} s: {log.read_text()}")
