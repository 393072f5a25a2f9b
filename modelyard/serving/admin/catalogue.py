"""Routes for base models, composites and deployments; every change is checked against the whole catalogue before it takes effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from fastapi import APIRouter

from modelyard.catalog.records import BaseModel, Composite, Deployment
from modelyard.serving.admin.context import AdminContext, Context
from modelyard.serving.admin.records import (
    CatalogRecord,
    Changes,
    CompositeRecord,
    DeploymentRecord,
    ModelRecord,
    PriceRecord,
    Registration,
)
from modelyard.serving.admin.security import Admin, who

router: Final = APIRouter(tags=["catalogue"])


@router.get("/catalog")
async def get_catalog(context: Context) -> CatalogRecord:
    """Return the catalogue's revision, what an operator should know about it, and why stored changes could not be read."""
    return _catalog(context)


@router.post("/catalog/reload")
def reload_catalog(context: Context) -> CatalogRecord:
    """Read the catalogue's file and the stored changes anew; where they are not valid, the old catalogue stays."""
    context.manager.reload()
    context.changed()
    return _catalog(context)


@router.get("/models")
async def list_models(context: Context, *, served: bool | None = None) -> list[ModelRecord]:
    """Return the base models; `served` leaves only those that can, or cannot, draft an answer now."""
    models = context.manager.catalog.models.values()
    return [_model(model) for model in models if served is None or model.served == served]


@router.post("/models", status_code=201)
def register_model(asked: Registration, context: Context, principal: Admin) -> ModelRecord:
    """Register a base model; the fields are those of its TOML table, deployments included."""
    context.manager.register_model(asked.name, asked.fields, by=who(principal))
    context.changed()
    return _model(context.manager.catalog.model(asked.name))


@router.get("/models/{name:path}")
async def get_model(name: str, context: Context) -> ModelRecord:
    """Return a base model."""
    return _model(context.manager.catalog.model(name))


@router.patch("/models/{name:path}")
def change_model(name: str, asked: Changes, context: Context, principal: Admin) -> ModelRecord:
    """Change fields of a base model: tables are merged, and null takes a field back to what it is without being named."""
    context.manager.update("model", name, asked.changes, by=who(principal))
    context.changed()
    return _model(context.manager.catalog.model(name))


@router.delete("/models/{name:path}", status_code=204)
def remove_model(name: str, context: Context, principal: Admin) -> None:
    """Take a base model that no composite needs out of the catalogue, also one that stands in a file."""
    context.manager.remove("model", name, by=who(principal))
    context.changed()


@router.get("/composites")
async def list_composites(context: Context) -> list[CompositeRecord]:
    """Return the composite models."""
    return [_composite(composite) for composite in context.manager.catalog.composites.values()]


@router.post("/composites", status_code=201)
def register_composite(asked: Registration, context: Context, principal: Admin) -> CompositeRecord:
    """Register a composite model; the fields are those of its TOML table."""
    context.manager.register_composite(asked.name, asked.fields, by=who(principal))
    context.changed()
    return _composite(context.manager.catalog.composite(asked.name))


@router.get("/composites/{name:path}")
async def get_composite(name: str, context: Context) -> CompositeRecord:
    """Return a composite model."""
    return _composite(context.manager.catalog.composite(name))


@router.patch("/composites/{name:path}")
def change_composite(name: str, asked: Changes, context: Context, principal: Admin) -> CompositeRecord:
    """Change fields of a composite model."""
    context.manager.update("composite", name, asked.changes, by=who(principal))
    context.changed()
    return _composite(context.manager.catalog.composite(name))


@router.delete("/composites/{name:path}", status_code=204)
def remove_composite(name: str, context: Context, principal: Admin) -> None:
    """Take a composite model out of the catalogue, also one that stands in a file."""
    context.manager.remove("composite", name, by=who(principal))
    context.changed()


@router.post("/reset/{kind}/{name:path}")
def reset(kind: Literal["model", "composite"], name: str, context: Context, principal: Admin) -> CatalogRecord:
    """Take all changes of a model or composite back, so that it is as the files say; one that they do not have is gone."""
    context.manager.reset(kind, name, by=who(principal))
    context.changed()
    return _catalog(context)


@router.get("/deployments")
async def list_deployments(context: Context) -> list[DeploymentRecord]:
    """Return the deployments with their breaker, load and health in the process that answers."""
    known = context.health.summary()
    return [_deployment(found, known.get(found.name)) for found in context.manager.catalog.deployments]


@router.get("/deployments/{name:path}")
async def get_deployment(name: str, context: Context) -> DeploymentRecord:
    """Return a deployment."""
    return _deployment(context.manager.catalog.deployment(name), context.health.summary().get(name))


@router.patch("/deployments/{name:path}")
def change_deployment(name: str, asked: Changes, context: Context, principal: Admin) -> DeploymentRecord:
    """Change fields of a deployment; `enabled` switches it off and on, and requests under way are finished."""
    context.manager.update("deployment", name, asked.changes, by=who(principal))
    context.changed()
    return _deployment(context.manager.catalog.deployment(name), context.health.summary().get(name))


@router.delete("/deployments/{name:path}", status_code=204)
def remove_deployment(name: str, context: Context, principal: Admin) -> None:
    """Take a deployment away, unless it is its model's last one."""
    context.manager.remove("deployment", name, by=who(principal))
    context.changed()


def _catalog(context: AdminContext) -> CatalogRecord:
    now, problem = context.manager.now, context.manager.problem
    return CatalogRecord(revision=now.revision, notices=list(now.catalog.notices), problem=problem)


def _model(model: BaseModel) -> ModelRecord:
    return ModelRecord(
        name=model.name,
        kind=model.kind,
        enabled=model.enabled,
        served=model.served,
        price=PriceRecord.model_validate(model.price),
        price_from=model.price_from,
        context_window=model.context_window,
        output_tokens=model.output_tokens,
        max_output_tokens=model.max_output_tokens,
        image_tokens=model.image_tokens,
        capabilities=sorted(model.capabilities),
        embeddings=model.embeddings,
        moderations=model.moderations,
        deployments=[deployment.name for deployment in model.deployments],
    )


def _composite(composite: Composite) -> CompositeRecord:
    return CompositeRecord.model_validate(composite)


def _deployment(deployment: Deployment, facts: Mapping[str, Any] | None) -> DeploymentRecord:
    """Return a deployment with what the health monitor knows of it; None where it was taken away this moment."""
    record = DeploymentRecord.model_validate(deployment)
    if facts is None:
        return record
    state = {name: value for name, value in facts.items() if name not in {"health", "model"}}
    return record.model_copy(update={"health": facts["health"], "state": state})
