"""What the admin API works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from modelyard.catalog.health import HealthMonitor
from modelyard.catalog.manager import ModelManager
from modelyard.control.alerts import AlertWatch
from modelyard.control.caches import Caches
from modelyard.control.flags import Flags
from modelyard.control.keys import KeyRing
from modelyard.control.quotas import Quotas
from modelyard.settings import Settings
from modelyard.storage.database import Database
from modelyard.storage.erasure import Erasure
from modelyard.upstream.state import DeploymentStates


@dataclass(frozen=True, slots=True)
class AdminContext:
    """The parts of a serving process that an operator sees and changes.

    Attributes:
        settings: Where the registry and its champions are.
        manager: The catalogue.
        database: Everything that is stored.
        states: How each deployment fares in this process.
        caches: This process' caches.
        flags: The rollout flags.
        alerts: The rules and their alerts.
        keyring: The API keys.
        quotas: The limits of keys, projects and model types.
        erasure: Deletes users and projects, also of what is on its way to the database.
        health: Knows which deployments are up.
        changed: Called when something that serves was changed; what serves is the new one when it returns.
        auth: Whether a key is asked for; where it is not, programs on this machine alone are answered.
    """

    settings: Settings
    manager: ModelManager
    database: Database
    states: DeploymentStates
    caches: Caches
    flags: Flags
    alerts: AlertWatch
    keyring: KeyRing
    quotas: Quotas
    erasure: Erasure
    health: HealthMonitor
    changed: Callable[[], object]
    auth: bool = True


def context_of(request: Request) -> AdminContext:
    """Return what the app was made with."""
    return cast("AdminContext", request.app.state.context)


Context = Annotated[AdminContext, Depends(context_of)]
