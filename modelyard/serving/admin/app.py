"""The two FastAPI apps; serving mounts them at `/admin` and `/analytics`, each with its own `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Depends, FastAPI

from modelyard import __version__
from modelyard.serving.admin import access, analytics, catalogue, operations, promotions
from modelyard.serving.admin.context import AdminContext
from modelyard.serving.admin.faults import add_handlers
from modelyard.serving.admin.input import BoundedBodies, check_address
from modelyard.serving.admin.security import admin, analyst

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"description": "The request was refused.", "content": {"application/json": {"schema": _ERROR}}},
    "5XX": {"description": "The server could not do it.", "content": {"application/json": {"schema": _ERROR}}},
}

# The pages for people load scripts from a third party; the schema is a route of ours, so that it asks who is there.
_COMMON: Final[dict[str, Any]] = {
    "version": __version__,
    "responses": _RESPONSES,
    "docs_url": None,
    "redoc_url": None,
    "openapi_url": None,
}


def create_admin(context: AdminContext) -> FastAPI:
    """Return the app for `/admin`; every call needs a key with the scope `admin`."""
    app = FastAPI(
        title="Modelyard admin",
        description="Models, composites, deployments, keys, quotas, promotions, flags, alerts and caches of a running server.",
        dependencies=[Depends(admin), Depends(check_address)],
        servers=[{"url": "/admin"}],
        **_COMMON,
    )
    for router in (catalogue.router, access.router, promotions.router, operations.router):
        app.include_router(router)
    return _finished(app, context)


def create_analytics(context: AdminContext) -> FastAPI:
    """Return the app for `/analytics`; every call needs a key with the scope `analytics` or `admin`."""
    app = FastAPI(
        title="Modelyard analytics",
        description="Usage, cost, latency, routing, savings and retrieval, by time, model, key, project and domain.",
        dependencies=[Depends(analyst), Depends(check_address)],
        servers=[{"url": "/analytics"}],
        **_COMMON,
    )
    app.include_router(analytics.router)
    return _finished(app, context)


def _finished(app: FastAPI, context: AdminContext) -> FastAPI:
    app.state.context = context

    @app.get("/openapi.json", include_in_schema=False)
    def schema() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return app.openapi()

    app.add_middleware(BoundedBodies)
    add_handlers(app)
    return app
