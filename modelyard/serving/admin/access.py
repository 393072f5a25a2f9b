"""Routes for projects, API keys and quotas, and for deleting everything of a project or a user."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from sqlalchemy import select

from modelyard.control.keys import Principal
from modelyard.control.quotas import Quota, QuotaScope
from modelyard.errors import InvalidInput
from modelyard.serving.admin.context import AdminContext, Context
from modelyard.serving.admin.faults import NotFound
from modelyard.serving.admin.records import (
    DeletedRecord,
    KeyRecord,
    NewKey,
    NewKeyRecord,
    NewQuota,
    ProjectRecord,
    QuotaRecord,
    Rotation,
)
from modelyard.storage.tables import Project

router: Final = APIRouter()


@router.get("/projects", tags=["projects"])
def list_projects(context: Context) -> list[ProjectRecord]:
    """Return the projects, by name."""
    with context.database.read() as session:
        return [ProjectRecord.model_validate(row) for row in session.scalars(select(Project).order_by(Project.name))]


@router.delete("/projects/{project_id}", tags=["projects"])
def remove_project(project_id: str, context: Context) -> DeletedRecord:
    """Delete everything of a project: keys, quotas, messages, usage, feedback. Its keys end first.

    Where usage cannot reach the database, nothing is deleted (503); a call that was interrupted is completed by calling again.
    """
    with context.database.read() as session:
        known = session.get(Project, project_id) is not None
    if not known and not context.erasure.was_deleted("project", project_id):
        raise NotFound(f"No project has the id {project_id!r}.")
    try:
        deleted = context.erasure.project(project_id)
    finally:
        context.keyring.forget()
    if not known and not deleted:
        raise NotFound(f"No project has the id {project_id!r} any more.")
    return DeletedRecord(deleted=deleted)


@router.delete("/users/{user_id:path}", tags=["projects"])
def remove_user(user_id: str, context: Context, *, keep_charges: bool = False) -> DeletedRecord:
    """Delete everything of an application's user, in every project; `keep_charges` keeps what was spent, without saying whose it was.

    Requests that are under way leave nothing either. Where usage cannot reach the database, nothing is deleted (503).
    """
    return DeletedRecord(deleted=context.erasure.user(user_id, keep_charges=keep_charges))


@router.get("/keys", tags=["keys"])
def list_keys(context: Context, project: str | None = None) -> list[KeyRecord]:
    """Return the API keys of a project, by its id or name, or of all, without their secrets."""
    return [KeyRecord.model_validate(facts) for facts in context.keyring.list(project)]


@router.post("/keys", tags=["keys"], status_code=201)
def create_key(asked: NewKey, context: Context) -> NewKeyRecord:
    """Make an API key, and its project where there is none of that name; the secret is shown this once."""
    return _shown(
        *context.keyring.create(
            asked.project, asked.name, asked.scopes, model_types=asked.model_types, expires_at=asked.expires_at
        )
    )


@router.post("/keys/{key_id}/rotate", tags=["keys"])
def rotate_key(key_id: str, asked: Rotation, context: Context) -> NewKeyRecord:
    """Give a key a new secret under the same id; the old one stays valid for the grace."""
    return _shown(*context.keyring.rotate(_known(key_id, context), grace_s=asked.grace_s))


@router.delete("/keys/{key_id}", tags=["keys"], status_code=204)
def revoke_key(key_id: str, context: Context) -> None:
    """End a key: at once in this process, within a minute in others."""
    context.keyring.revoke(_known(key_id, context))


@router.get("/quotas", tags=["quotas"])
def list_quotas(context: Context) -> list[QuotaRecord]:
    """Return the limits of keys, projects and model types; subjects are ids."""
    return [QuotaRecord.model_validate(quota) for quota in context.quotas.all()]


@router.put("/quotas", tags=["quotas"])
def put_quota(asked: NewQuota, context: Context) -> QuotaRecord:
    """Set limits in the place of those that there were; they count within seconds, in every process."""
    return QuotaRecord.model_validate(context.quotas.put(Quota(**asked.model_dump())))


@router.delete("/quotas", tags=["quotas"], status_code=204)
def remove_quota(scope: QuotaScope, subject: str, context: Context) -> None:
    """Take limits away."""
    try:
        context.quotas.remove(scope, subject)
    except InvalidInput as error:
        raise NotFound(str(error)) from None


def _known(key: str, context: AdminContext) -> str:
    """Return a key's id or prefix.

    Raises:
        NotFound: No key has it.
    """
    if not any(key in {facts.id, facts.prefix} for facts in context.keyring.list()):
        raise NotFound(f"No API key has the id or prefix {key!r}.")
    return key


def _shown(principal: Principal, plaintext: str) -> NewKeyRecord:
    return NewKeyRecord(id=str(principal.key_id), key=plaintext, project_id=str(principal.project))
