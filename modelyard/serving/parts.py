"""Everything that a serving process is made of, put together from the settings, started and closed as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast, get_args

from modelyard.catalog.health import HealthMonitor, ProbeRules
from modelyard.catalog.manager import ModelManager
from modelyard.control.alert_rules import AlertRules
from modelyard.control.alerts import AlertWatch
from modelyard.control.caches import Caches
from modelyard.control.flags import Flags
from modelyard.control.keys import KeyRing
from modelyard.control.limiting import make_limits
from modelyard.control.limits import Limits
from modelyard.control.periodic import Periodic
from modelyard.control.quotas import Quotas
from modelyard.errors import InvalidSetting, ModelyardError, RegistryError
from modelyard.routing import RouterModel
from modelyard.serving.admin.context import AdminContext
from modelyard.serving.embeddings import Embedders
from modelyard.serving.metrics import Metrics
from modelyard.serving.moderations import Moderators
from modelyard.serving.reports import Reports
from modelyard.serving.served import Served
from modelyard.serving.standing import unreachable_models
from modelyard.serving.telemetry import Telemetry
from modelyard.serving.traces import Traces
from modelyard.serving.watched import watched
from modelyard.settings import Settings
from modelyard.storage import Database
from modelyard.storage.erasure import Erasure
from modelyard.storage.retention import Kept, delete_expired
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from modelyard.tasks import open_classifier

FLAGS_S = 5.0
ALERTS_S = 60.0
SPENDING_S = 5.0
RETENTION_S = 3600.0
FOLLOW_S = 10.0
DRAIN_S = 5.0  # how long the start waits for what an earlier process left in the spool, which budgets count from

log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts of a serving process.

    Attributes:
        settings: What it was made from.
        database: Messages, usage, keys and all else that is stored.
        spool, writer: The way of usage to the database.
        served: Models by name.
        manager: The catalogue, which operators change.
        keyring: The API keys; asked only where authentication is on.
        quotas, limits: Rates and budgets, and what is left of them.
        caches, metrics, flags, alerts: Of this process.
        embedders, moderators: Embeddings and moderations, micro-batched.
        health: Probes of deployments.
        erasure: Deletes users and projects.
        jobs: What runs in the background.
        reports: Spans and traces.
    """

    settings: Settings
    database: Database
    spool: Spool
    writer: Writer
    served: Served
    manager: ModelManager
    keyring: KeyRing
    quotas: Quotas
    limits: Limits
    caches: Caches
    metrics: Metrics
    flags: Flags
    alerts: AlertWatch
    embedders: Embedders
    moderators: Moderators
    health: HealthMonitor
    erasure: Erasure
    jobs: tuple[Periodic, ...]
    reports: tuple[Reports, ...] = ()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start everything, and close it in the opposite order."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._close_books)
            await asyncio.to_thread(self.writer.flush, DRAIN_S)
            stack.push_async_callback(self.limits.close)
            stack.push_async_callback(self.served.close)
            stack.push_async_callback(self.embedders.close)
            stack.push_async_callback(self.moderators.close)
            for job in self.jobs:
                await job.start()
                stack.push_async_callback(job.stop)
            if self.settings.probe_s:
                await self.health.start()
                stack.push_async_callback(self.health.stop)
            yield

    @property
    def admin_context(self) -> AdminContext:
        """What operators see and change."""
        return AdminContext(
            settings=self.settings,
            manager=self.manager,
            database=self.database,
            states=self.served.states,
            caches=self.caches,
            flags=self.flags,
            alerts=self.alerts,
            keyring=self.keyring,
            quotas=self.quotas,
            erasure=self.erasure,
            health=self.health,
            changed=self.served.refresh,
            auth=self.settings.auth == "keys",
        )

    def report(self) -> dict[str, Any]:
        """Say how everything fares, by looking."""
        champions = self.served.champions()
        database = _problem_of(self.database) or self.writer.problem
        deployments = self.served.states.snapshot()
        problems = [
            *self.served.problems,
            *(problem for problem in (self.manager.problem, self.keyring.problem, self.limits.problem) if problem),
            *(job.problem for job in self.jobs if job.problem),
            *(report.problem for report in self.reports if report.problem),
            *unreachable_models(self.manager.catalog, deployments),
        ]
        sound = not (database or self.spool.problem or problems)
        return {
            "status": "ok" if sound and all(found["state"] != "broken" for found in champions.values()) else "degraded",
            "champions": champions,
            "database": _state(database),
            "spool": {**_state(self.spool.problem), "lost": self.spool.dropped, "waiting_bytes": self.writer.lag_bytes},
            "problems": problems,
            "alerts": {rule: count for rule, count in self.alerts.open_alerts.items() if count},
            "notices": list(self.manager.catalog.notices),
            "deployments": {
                name: {"breaker": facts["breaker"], "last_error": facts["last_error"]}
                for name, facts in deployments.items()
            },
        }

    def _close_books(self) -> None:
        for report in self.reports:
            report.close()
        self.writer.close()
        self.spool.close()
        self.keyring.close()
        self.quotas.close()
        self.database.close()


def open_parts(settings: Settings) -> ServerParts:
    """Put a serving process together; `running` starts it.

    Raises:
        InvalidSetting: A setting, the catalogue or the alert rules are not valid.
        MissingExtra: A setting needs a package that is not installed.
    """
    database = Database(settings.database)
    problem = _migration_problem(database)
    if problem is not None:
        log.error("The server starts without its database: %s", problem)
    manager = ModelManager(settings.catalog, database, key_variables=settings.key_variables)
    caches, metrics, flags = Caches.sized(settings.cache_mb), Metrics(), Flags(database)
    served = Served(settings, manager, caches)
    spool = Spool(settings.spool)
    writer = Writer(spool, database)
    keyring, quotas = KeyRing(database), Quotas(database)
    limits = make_limits(settings, quotas, database)
    erasure = Erasure(database, writer, caches.clear)
    alerts = AlertWatch(database, AlertRules.read(settings.alert_rules) if settings.alert_rules else AlertRules())
    jobs = [
        Periodic("flags", flags.refresh, FLAGS_S),
        Periodic("alerts", alerts.evaluate, ALERTS_S),
        Periodic("spending", limits.save_spending, SPENDING_S),
        Periodic("deletions", erasure.follow, FLAGS_S),
        Periodic("keys", keyring.save_last_used, ALERTS_S),
    ]
    if settings.retention_days:
        days = retention(settings.retention_days)
        jobs.append(Periodic("retention", lambda: delete_expired(database, days), RETENTION_S))
    if settings.registry_poll_s:
        jobs.append(Periodic("changes", served.refresh, settings.registry_poll_s))
        if settings.follow_registry == "on" or (settings.follow_registry == "auto" and settings.mlflow_uri):
            jobs.append(Periodic("registry", _following(settings), max(settings.registry_poll_s, FOLLOW_S)))

    made = (Telemetry.from_environment(settings), Traces(settings))
    reports = tuple(report for report in made if report.enabled)

    parts = ServerParts(
        settings=settings,
        database=database,
        spool=spool,
        writer=writer,
        served=served,
        manager=manager,
        keyring=keyring,
        quotas=quotas,
        limits=limits,
        caches=caches,
        metrics=metrics,
        flags=flags,
        alerts=alerts,
        embedders=Embedders(served.upstream, served.states, caches),
        moderators=Moderators(served.upstream, served.states),
        health=HealthMonitor(manager, served.states, served.upstream, ProbeRules(settings.probe_s or 1.0)),
        erasure=erasure,
        jobs=tuple(jobs),
        reports=reports,
    )
    metrics.watch(lambda: watched(parts))
    return parts


def retention(days: Mapping[str, float]) -> dict[Kept, float]:
    """Return the retention periods of the settings.

    Raises:
        InvalidSetting: A table keeps no periods, or its days are not positive.
    """
    for table, kept in days.items():
        if table not in get_args(Kept) or not kept > 0:
            raise InvalidSetting(
                f"MODELYARD_RETENTION_DAYS must give days above 0 to some of {', '.join(get_args(Kept))}, "
                f"but got {kept!r} for {table!r}."
            )
    return {cast("Kept", table): kept for table, kept in days.items()}


def _following(settings: Settings) -> Callable[[], None]:
    from modelyard.registry.follow import Follower

    # What cannot be made into a working model must not become what the next start finds.
    follower = Follower(
        settings,
        {
            "router": RouterModel.from_artifact,
            "classifier": lambda artifact: open_classifier(artifact, "candidate", settings),
        },
    )

    def look() -> None:
        problems = [found.problem for found in follower.look() if found.problem]
        if problems:
            raise RegistryError(" ".join(problems))

    return look


def _migration_problem(database: Database) -> str | None:
    try:
        database.migrate()
    except ModelyardError as error:
        return str(error)
    return None


def _problem_of(database: Database) -> str | None:
    """Look at the database and return what is wrong with it, or None."""
    try:
        database.revision()
    except ModelyardError as error:
        return str(error)
    return None


def _state(problem: str | None) -> dict[str, Any]:
    return {"state": "failed", "reason": problem} if problem else {"state": "ok"}
