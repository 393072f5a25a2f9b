"""The admin and analytics APIs over a yard of their own, served by a real uvicorn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from modelyard.catalog.health import HealthMonitor
from modelyard.catalog.manager import ModelManager
from modelyard.client import Client
from modelyard.control.alert_rules import AlertRule, AlertRules
from modelyard.control.alerts import AlertWatch
from modelyard.control.caches import Caches
from modelyard.control.flags import Flags
from modelyard.control.keys import KeyRing
from modelyard.control.quotas import Quotas
from modelyard.serving.admin.app import create_admin, create_analytics
from modelyard.serving.admin.context import AdminContext
from modelyard.settings import Settings
from modelyard.storage import Database
from modelyard.storage.erasure import Erasure
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from modelyard.upstream import DeploymentStates, Upstream
from tests.integration.live_server import live_server

CATALOGUE = """
[models.gpt]
kind = "openai"
input = 2
output = 8
[models.gpt.deployments.east]
base_url = "https://east.example/v1"
api_key_env = "EAST_KEY"
[models.gpt.deployments.west]
base_url = "https://west.example/v1"

[models.mini]
kind = "openai"
input = 0.1
output = 0.4
base_url = "https://mini.example/v1"

[composites.team]
description = "Two of them."
candidates = ["mini", "gpt"]
fallback = "gpt"
"""

RULES = AlertRules(rules={"spending": AlertRule(metric="cost_usd", above=1.0, window_s=86_400)})


@dataclass
class Yard:
    """The server's address, what it works on, and a client with the scope `admin`."""

    url: str
    context: AdminContext
    client: Client
    key: str

    def client_with(self, *scopes: str, project: str = "ops") -> Client:
        _, plaintext = self.context.keyring.create(project, "test", scopes)
        return Client(self.url, plaintext)


@contextmanager
def admin_yard(folder: Path, database: Database, *, auth: bool = True) -> Iterator[Yard]:
    catalogue = folder / "catalogue.toml"
    catalogue.write_text(CATALOGUE)
    manager, states, caches = ModelManager(catalogue, database), DeploymentStates(), Caches.sized(1)
    spool = Spool(folder / "spool")
    writer = Writer(spool, database)
    context = AdminContext(
        settings=Settings(home=folder / "yard", database_url=database.engine.url.render_as_string(hide_password=False)),
        manager=manager,
        database=database,
        states=states,
        caches=caches,
        flags=Flags(database),
        alerts=AlertWatch(database, RULES),
        keyring=KeyRing(database),
        quotas=Quotas(database),
        erasure=Erasure(database, writer, caches.clear),
        health=HealthMonitor(manager, states, Upstream()),
        changed=lambda: None,
        auth=auth,
    )
    app = Starlette(routes=[Mount("/admin", create_admin(context)), Mount("/analytics", create_analytics(context))])
    _, key = context.keyring.create("ops", "operator", ["admin"])
    with live_server(app) as url, Client(url, key if auth else None) as client:
        yield Yard(url, context, client, key)
    writer.close()
    spool.close()
    context.keyring.close()
    context.quotas.close()


def usage_of(database: Database, *rows: dict[str, Any]) -> None:
    """Store usage rows; what they do not say is that of a chat request to `gpt`."""
    from modelyard.storage.tables import ModelUsage

    given: dict[str, Any] = {
        "model": "gpt",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cost_usd": 0.01,
        "estimated": False,
        "latency_ms": 100.0,
    }
    with database.write() as session:
        session.add_all(ModelUsage(**given | row) for row in rows)
