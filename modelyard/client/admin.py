"""The admin API: what an operator sees and changes while everything runs. Every method raises `ApiError` where the server refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from modelyard.client.calls import Caller
from modelyard.serving.admin.records import (
    AlertRecord,
    CacheRecord,
    CatalogRecord,
    ChampionRecord,
    CompositeRecord,
    DeletedRecord,
    DeploymentRecord,
    FlagRecord,
    KeyRecord,
    ModelRecord,
    MoveRecord,
    NewKeyRecord,
    ProjectRecord,
    QuotaRecord,
    Scope,
)

Component = Literal["classifier", "router"]
Kind = Literal["model", "composite", "deployment"]


class Admin:
    """Calls `/admin`; the key needs the scope `admin`."""

    def __init__(self, caller: Caller) -> None:
        self._call = caller.call

    def catalog(self) -> CatalogRecord:
        """Return the catalogue's revision and what an operator should know about it."""
        return self._call("GET", "/admin/catalog", CatalogRecord)

    def reload_catalog(self) -> CatalogRecord:
        """Have the catalogue's file and the stored changes read anew."""
        return self._call("POST", "/admin/catalog/reload", CatalogRecord)

    def models(self, *, served: bool | None = None) -> list[ModelRecord]:
        """Return the base models."""
        return self._call("GET", "/admin/models", list[ModelRecord], params={"served": served})

    def model(self, name: str) -> ModelRecord:
        """Return a base model."""
        return self._call("GET", f"/admin/models/{_part(name)}", ModelRecord)

    def register_model(self, name: str, fields: Mapping[str, Any]) -> ModelRecord:
        """Register a base model; the fields are those of its TOML table."""
        return self._call("POST", "/admin/models", ModelRecord, body={"name": name, "fields": dict(fields)})

    def composites(self) -> list[CompositeRecord]:
        """Return the composite models."""
        return self._call("GET", "/admin/composites", list[CompositeRecord])

    def composite(self, name: str) -> CompositeRecord:
        """Return a composite model."""
        return self._call("GET", f"/admin/composites/{_part(name)}", CompositeRecord)

    def register_composite(self, name: str, fields: Mapping[str, Any]) -> CompositeRecord:
        """Register a composite model; the fields are those of its TOML table."""
        return self._call("POST", "/admin/composites", CompositeRecord, body={"name": name, "fields": dict(fields)})

    def deployments(self) -> list[DeploymentRecord]:
        """Return the deployments with their breaker, load and health."""
        return self._call("GET", "/admin/deployments", list[DeploymentRecord])

    def deployment(self, name: str) -> DeploymentRecord:
        """Return a deployment."""
        return self._call("GET", f"/admin/deployments/{_part(name)}", DeploymentRecord)

    def change(self, kind: Kind, name: str, **changes: Any) -> ModelRecord | CompositeRecord | DeploymentRecord:
        """Change fields of a model, composite or deployment; None takes a field back to what it is without being named."""
        record = {"model": ModelRecord, "composite": CompositeRecord, "deployment": DeploymentRecord}[kind]
        return self._call("PATCH", f"/admin/{kind}s/{_part(name)}", record, body={"changes": changes})

    def enable(self, kind: Kind, name: str) -> None:
        """Switch a model, composite or deployment on."""
        self.change(kind, name, enabled=True)

    def disable(self, kind: Kind, name: str) -> None:
        """Switch a model, composite or deployment off; requests under way are finished."""
        self.change(kind, name, enabled=False)

    def remove(self, kind: Kind, name: str) -> None:
        """Take a model, composite or deployment that nothing needs out of the catalogue."""
        self._delete(f"/admin/{kind}s/{_part(name)}")

    def reset(self, kind: Literal["model", "composite"], name: str) -> CatalogRecord:
        """Take all changes of a model or composite back, so that it is as the files say."""
        return self._call("POST", f"/admin/reset/{kind}/{_part(name)}", CatalogRecord)

    def projects(self) -> list[ProjectRecord]:
        """Return the projects."""
        return self._call("GET", "/admin/projects", list[ProjectRecord])

    def keys(self, *, project: str | None = None) -> list[KeyRecord]:
        """Return the API keys, without their secrets."""
        return self._call("GET", "/admin/keys", list[KeyRecord], params={"project": project})

    def create_key(
        self,
        project: str,
        name: str,
        scopes: Sequence[Scope],
        *,
        model_types: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> NewKeyRecord:
        """Make an API key, and its project where there is none of that name; the secret is shown this once."""
        body = {"project": project, "name": name, "scopes": list(scopes)}
        body |= {"model_types": None if model_types is None else list(model_types)}
        body |= {"expires_at": None if expires_at is None else expires_at.isoformat()}
        return self._call("POST", "/admin/keys", NewKeyRecord, body=body)

    def rotate_key(self, key_id: str, *, grace_s: float = 0.0) -> NewKeyRecord:
        """Give a key a new secret under the same id; the old one stays valid for `grace_s` seconds."""
        return self._call("POST", f"/admin/keys/{_part(key_id)}/rotate", NewKeyRecord, body={"grace_s": grace_s})

    def revoke_key(self, key_id: str) -> None:
        """End a key's validity."""
        self._delete(f"/admin/keys/{_part(key_id)}")

    def quotas(self) -> list[QuotaRecord]:
        """Return every quota."""
        return self._call("GET", "/admin/quotas", list[QuotaRecord])

    def set_quota(
        self,
        scope: Literal["key", "project", "model_type"],
        subject: str,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        usd_per_day: float | None = None,
        usd_per_month: float | None = None,
    ) -> QuotaRecord:
        """Set the limits of a key, project or model type, in the place of those it had; None is no limit."""
        body = {"scope": scope, "subject": subject, "requests_per_minute": requests_per_minute}
        body |= {"tokens_per_minute": tokens_per_minute, "usd_per_day": usd_per_day, "usd_per_month": usd_per_month}
        return self._call("PUT", "/admin/quotas", QuotaRecord, body=body)

    def remove_quota(self, scope: Literal["key", "project", "model_type"], subject: str) -> None:
        """Take the limits of a key, project or model type away."""
        self._call("DELETE", "/admin/quotas", type(None), params={"scope": scope, "subject": subject})

    def champions(self) -> list[ChampionRecord]:
        """Say for each component which version serves, and whether it is whole."""
        return self._call("GET", "/admin/champions", list[ChampionRecord])

    def promotions(self, component: Component | None = None) -> list[MoveRecord]:
        """Return every move of a champion, newest first."""
        return self._call("GET", "/admin/promotions", list[MoveRecord], params={"component": component})

    def promote(self, component: Component, version: str, *, reason: str, verdict: Mapping[str, Any]) -> MoveRecord:
        """Make a registered version the champion, if the gate lets the verdict through."""
        body = {"component": component, "version": version, "reason": reason, "verdict": dict(verdict)}
        return self._call("POST", "/admin/promotions", MoveRecord, body=body)

    def rollback(self, component: Component, *, reason: str) -> MoveRecord:
        """Make the version before the champion the champion again."""
        body = {"component": component, "reason": reason}
        return self._call("POST", "/admin/promotions/rollback", MoveRecord, body=body)

    def alerts(self, *, open_only: bool = False, limit: int = 100) -> list[AlertRecord]:
        """Return the alerts, newest first."""
        return self._call("GET", "/admin/alerts", list[AlertRecord], params={"open_only": open_only, "limit": limit})

    def evaluate_alerts(self) -> list[AlertRecord]:
        """Have the rules evaluated now, and return the alerts that are open."""
        return self._call("POST", "/admin/alerts/evaluate", list[AlertRecord])

    def alert_rules(self) -> dict[str, Any]:
        """Return the rules that alerts are raised by."""
        return self._call("GET", "/admin/alerts/rules", dict[str, Any])

    def set_alert_rules(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """Set all rules, in the form in which `alert_rules` returns them; the next evaluation goes by them."""
        return self._call("PUT", "/admin/alerts/rules", dict[str, Any], body=dict(rules))

    def reset_alert_rules(self) -> dict[str, Any]:
        """Return to the rules of the server's file, or the shipped ones, and return them."""
        return self._call("DELETE", "/admin/alerts/rules", dict[str, Any])

    def flags(self) -> list[FlagRecord]:
        """Return the rollout flags."""
        return self._call("GET", "/admin/flags", list[FlagRecord])

    def set_flag(
        self,
        name: str,
        *,
        enabled: bool,
        share: float = 1.0,
        description: str = "",
        rules: Sequence[Mapping[str, Any]] = (),
    ) -> FlagRecord:
        """Make a flag, or replace it; a rule is `{"attribute", "values", "on"}`."""
        body = {"enabled": enabled, "share": share, "description": description, "rules": [dict(rule) for rule in rules]}
        return self._call("PUT", f"/admin/flags/{_part(name)}", FlagRecord, body=body)

    def remove_flag(self, name: str) -> None:
        """Remove a flag."""
        self._delete(f"/admin/flags/{_part(name)}")

    def caches(self) -> list[CacheRecord]:
        """Return what the caches of the process that answers did since it started."""
        return self._call("GET", "/admin/caches", list[CacheRecord])

    def clear_caches(self) -> None:
        """Have that process forget everything it cached."""
        self._delete("/admin/caches")

    def delete_project(self, project_id: str) -> dict[str, int]:
        """Delete everything of a project, and return how many rows of each table went."""
        return self._call("DELETE", f"/admin/projects/{_part(project_id)}", DeletedRecord).deleted

    def delete_user(self, user_id: str, *, keep_charges: bool = False) -> dict[str, int]:
        """Delete everything of an application's user, and return how many rows of each table went."""
        params = {"keep_charges": keep_charges}
        return self._call("DELETE", f"/admin/users/{_part(user_id)}", DeletedRecord, params=params).deleted

    def _delete(self, path: str) -> None:
        self._call("DELETE", path, type(None))


def _part(name: str) -> str:
    """Quote a name for its place in a path; deployments keep their slash."""
    return quote(name, safe="/")
