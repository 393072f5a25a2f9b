"""Who may call the admin and analytics APIs."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from modelyard.control.keys import ANONYMOUS, Principal, bearer
from modelyard.errors import Forbidden
from modelyard.serving.admin.context import context_of
from modelyard.serving.own_machine import SENTENCE, from_elsewhere

# For the schema; the header itself is read by `bearer`, as everywhere else.
_BEARER: Final = HTTPBearer(auto_error=False, description="An API key with the scope `admin` or `analytics`.")


async def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Principal:
    """Return whose key came with the request; without authentication only this machine's own programs may ask.

    Raises:
        Unauthenticated: No valid key came.
        Forbidden: Authentication is off, and the request may be a web page's.
    """
    context = context_of(request)
    if not context.auth:
        if from_elsewhere(request.scope["headers"]):
            raise Forbidden(SENTENCE)
        return ANONYMOUS
    return await context.keyring.authenticate(bearer(request.headers.get("authorization")))


async def admin(caller: Annotated[Principal, Depends(_caller)]) -> Principal:
    """Let keys with the scope `admin` in."""
    caller.require("admin")
    return caller


async def analyst(caller: Annotated[Principal, Depends(_caller)]) -> Principal:
    """Let keys with the scope `analytics` or `admin` in."""
    if not sees_everything(caller):
        caller.require("analytics")
    return caller


Admin = Annotated[Principal, Depends(admin)]
Analyst = Annotated[Principal, Depends(analyst)]


def sees_everything(caller: Principal) -> bool:
    """Return whether the caller may see every project's usage; without authentication, everybody who is let in may."""
    return "admin" in caller.scopes


def who(caller: Principal) -> str:
    """Return how a history names whoever changed something."""
    return caller.name if caller.key_id is None else f"{caller.name} ({caller.key_id})"
