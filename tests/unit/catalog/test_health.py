from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from modelyard.catalog import BaseModel, Deployment, Price
from modelyard.catalog.health import HealthMonitor, ProbeRules
from modelyard.catalog.records import Catalog
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.breaker import BreakerRules
from tests.unit.upstream.openai_server import Behaviour, OpenAIServer, answers, hangs, openai_server, refuses, says

LIST = says('{"object": "list", "data": []}')
GONE = "http://127.0.0.1:9/v1"
QUICK = ProbeRules(interval_s=0.01, timeout_s=0.5)


@dataclass
class Source:
    """Knows the catalogue; tests put another one in its place."""

    catalog: Catalog


def catalog(*urls: str, key: str | None = None, **changes: object) -> Catalog:
    deployments = tuple(Deployment(f"gpt/{i}", "gpt", url, key, **changes) for i, url in enumerate(urls))  # type: ignore[arg-type]
    local = BaseModel("local", "local", Price(), method="sentence")
    return Catalog({"gpt": BaseModel("gpt", "openai", Price(), deployments=deployments), "local": local}, {})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def probed(*behaviours: Behaviour, rounds: int = 1, key: str | None = None) -> tuple[HealthMonitor, OpenAIServer]:
    async with openai_server(*behaviours) as server, Upstream() as upstream:
        monitor = HealthMonitor(
            Source(catalog(server.base_url, key=key)),
            DeploymentStates(BreakerRules(consecutive=2, cool_down_s=60)),
            upstream,
            ProbeRules(timeout_s=0.2),
        )
        for _ in range(rounds):
            await monitor.probe_all()
        return monitor, server


async def test_deployment_that_answers_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", "sk-probe")
    monitor, server = await probed(LIST, key="GPT_KEY")
    found = monitor.summary()["gpt/0"]

    assert (found["health"], found["model"], found["breaker"]) == ("up", "gpt", "closed")
    assert found["probe"]["ms"] > 0
    assert server.headers[0]["Authorization"] == "Bearer sk-probe"
    json.dumps(monitor.summary())


@pytest.mark.parametrize("status", [403, 404, 405, 429])
async def test_endpoint_that_keeps_its_list_to_itself_is_up(status: int) -> None:
    monitor, _ = await probed(refuses(status), rounds=3)

    assert monitor.summary()["gpt/0"]["health"] == "up"


@pytest.mark.parametrize(
    "behaviour", [refuses(500), refuses(503), refuses(401), hangs()], ids=["500", "503", "401", "hangs"]
)
async def test_deployment_whose_probes_fail_is_down_and_its_breaker_opens(behaviour: Behaviour) -> None:
    monitor, _ = await probed(behaviour, rounds=2)
    found = monitor.summary()["gpt/0"]

    assert (found["health"], found["breaker"], found["probe"]["ok"]) == ("down", "open", False)
    assert "'gpt/0'" in found["last_error"]


async def test_deployment_whose_key_is_not_set_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPT_KEY", raising=False)
    monitor, server = await probed(LIST, key="GPT_KEY")

    assert monitor.summary()["gpt/0"]["health"] == "down"
    assert "GPT_KEY is not set" in monitor.summary()["gpt/0"]["last_error"]
    assert not server.bodies


async def test_one_that_hangs_keeps_no_other_waiting() -> None:
    async with openai_server(hangs()) as slow, openai_server(LIST) as good, Upstream() as upstream:
        monitor = HealthMonitor(
            Source(catalog(slow.base_url, GONE, good.base_url)), DeploymentStates(), upstream, ProbeRules(timeout_s=0.3)
        )
        task = asyncio.create_task(monitor.probe_all())
        await until(lambda: monitor.summary()["gpt/2"]["health"] == "up")
        assert monitor.summary()["gpt/0"]["health"] == "unknown"
        await task

    assert [found["health"] for found in monitor.summary().values()] == ["down", "down", "up"]


async def test_what_is_switched_off_is_not_probed() -> None:
    async with openai_server(LIST) as server, Upstream() as upstream:
        off = catalog(server.base_url, enabled=False)
        resting = BaseModel("rest", "openai", Price(), base_url=server.base_url, enabled=False)
        source = Source(Catalog({**off.models, "rest": resting}, {}))
        monitor = HealthMonitor(source, DeploymentStates(), upstream)
        await monitor.probe_all()

        assert not server.bodies
        assert {name: found["health"] for name, found in monitor.summary().items()} == {"gpt/0": "off", "rest": "off"}


async def test_successful_calls_count_as_well_as_probes() -> None:
    states = DeploymentStates()
    async with Upstream() as upstream:
        monitor = HealthMonitor(Source(catalog(GONE)), states, upstream)
        assert monitor.summary()["gpt/0"]["health"] == "unknown"
        states["gpt/0"].succeed(states["gpt/0"].enter(), 12.0)

    assert monitor.summary()["gpt/0"]["health"] == "up"


async def test_states_of_deployments_that_left_are_forgotten_and_those_of_local_models_kept() -> None:
    states = DeploymentStates()
    source = Source(catalog(GONE, GONE))
    async with Upstream() as upstream:
        monitor = HealthMonitor(source, states, upstream)
        await monitor.probe_all()
        states["local"].succeed(states["local"].enter(), 1.0)
        source.catalog = catalog(GONE)
        await monitor.probe_all()

    assert {state.name for state in states} == {"gpt/0", "local"}


async def test_rounds_go_on_until_the_monitor_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with openai_server(refuses(500), LIST) as server, Upstream() as upstream:
            monitor = HealthMonitor(Source(catalog(server.base_url)), DeploymentStates(), upstream, QUICK)
            await monitor.start()
            await monitor.start()
            await until(lambda: len(server.bodies) >= 3)
            assert monitor.running
            await monitor.stop()
            await monitor.stop()
            asked = len(server.bodies)
            await asyncio.sleep(0.05)

            assert not monitor.running
            assert len(server.bodies) == asked
    said = [message for message in caplog.messages if "gpt/0" in message]
    assert len(said) == 2
    assert "status 500" in said[0]
    assert said[1] == "The deployment 'gpt/0' is back."


async def test_monitor_stops_in_the_middle_of_a_probe() -> None:
    async with openai_server(hangs()) as server, Upstream() as upstream:
        rules = ProbeRules(interval_s=0.01, timeout_s=60)
        monitor = HealthMonitor(Source(catalog(server.base_url)), DeploymentStates(), upstream, rules)
        await monitor.start()
        await until(lambda: bool(server.bodies))
        await monitor.stop()

    assert not monitor.running


async def test_a_round_that_fails_is_said_and_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        asked = 0

        @property
        def catalog(self) -> Catalog:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("no catalogue")
            return catalog(server.base_url)

    async with openai_server(answers("x")) as server, Upstream() as upstream:
        monitor = HealthMonitor(Broken(), DeploymentStates(), upstream, QUICK)
        await monitor.start()
        await until(lambda: bool(server.bodies))
        await monitor.stop()

    assert "A round of probes failed." in caplog.messages
