"""The admin API over TCP, through the typed client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from modelyard.catalog.manager import ModelManager
from modelyard.client import ApiError, Client
from modelyard.control.cache_keys import passages_key
from modelyard.errors import Unauthenticated, UpstreamError
from modelyard.registry.verdict import Difference
from modelyard.storage import Database
from modelyard.storage.tables import Message, ModelUsage
from tests.integration.admin_yard import Yard, admin_yard, usage_of
from tests.unit.registry.conftest import store
from tests.unit.registry.yard import MemoryStore, verdict
from tests.unit.storage.conftest import database, empty_postgresql, sqlite

__all__ = ["database", "empty_postgresql", "sqlite", "store"]


@pytest.fixture
def yard(tmp_path: Path, sqlite: Database) -> Iterator[Yard]:
    with admin_yard(tmp_path, sqlite) as yard:
        yield yard


def refused(call: Callable[[], Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value


# models, composites, deployments


def test_models_say_what_they_cost_and_where_they_are(yard: Yard):
    gpt = yard.client.admin.model("gpt")
    assert (gpt.price.input, gpt.price.output, gpt.served) == (2.0, 8.0, True)
    assert gpt.deployments == ["gpt/east", "gpt/west"]
    assert "tools" in gpt.capabilities
    assert {"gpt", "mini"} <= {model.name for model in yard.client.admin.models(served=True)}
    assert all(not model.served for model in yard.client.admin.models(served=False))


def test_a_model_is_registered_changed_used_and_removed_while_everything_runs(yard: Yard):
    admin = yard.client.admin
    before = admin.catalog().revision
    made = admin.register_model("vendor/new", {"kind": "openai", "base_url": "https://new.example/v1", "input": 1.0})
    assert made.served
    assert admin.catalog().revision == before + 1

    assert admin.change("model", "vendor/new", input=3.0, context_window=64_000).price.input == 3.0  # type: ignore[union-attr]
    composite = admin.register_composite(
        "trial", {"description": "New.", "candidates": ["vendor/new", "mini"], "fallback": "mini"}
    )
    assert composite.candidates == ["vendor/new", "mini"]

    error = refused(lambda: admin.remove("model", "vendor/new"))
    assert error.status == 400
    assert "trial" in str(error)
    admin.remove("composite", "trial")
    admin.remove("model", "vendor/new")
    assert refused(lambda: admin.model("vendor/new")).status == 404


def test_changes_survive_a_restart_and_reach_other_processes(yard: Yard, tmp_path: Path):
    other = ModelManager(tmp_path / "catalogue.toml", yard.context.database)
    yard.client.admin.disable("deployment", "gpt/west")
    other.refresh()
    assert not other.catalog.deployment("gpt/west").enabled
    assert not ModelManager(tmp_path / "catalogue.toml", yard.context.database).catalog.deployment("gpt/west").enabled


def test_a_change_that_would_break_the_catalogue_changes_nothing(yard: Yard):
    admin = yard.client.admin
    before = admin.catalog().revision
    for call in (
        lambda: admin.change("model", "gpt", input=-1),
        lambda: admin.change("model", "gpt", colour="red"),
        lambda: admin.change("composite", "team", candidates=["nobody"]),
        lambda: admin.register_model("gpt", {"kind": "openai", "base_url": "https://x.example/v1"}),
        lambda: admin.register_model("x", {"kind": "openai"}),
    ):
        assert refused(call).status == 400
    assert admin.catalog().revision == before
    assert admin.model("gpt").price.input == 2.0


def test_a_composite_keeps_at_least_one_model(yard: Yard):
    admin = yard.client.admin
    admin.disable("model", "mini")
    assert admin.composite("team").left_out == ["mini"]
    error = refused(lambda: admin.disable("model", "gpt"))
    assert error.status == 400
    assert "team" in str(error)
    admin.enable("model", "mini")
    assert admin.composite("team").candidates == ["mini", "gpt"]


def test_a_reset_takes_changes_back(yard: Yard):
    admin = yard.client.admin
    admin.change("model", "gpt", input=5.0)
    admin.reset("model", "gpt")
    assert admin.model("gpt").price.input == 2.0


def test_deployments_show_their_breaker_and_no_secret(yard: Yard):
    state = yard.context.states["gpt/east"]
    for _ in range(20):
        state.fail(state.enter(), UpstreamError("It is gone.", kind="connect"))
    east = yard.client.admin.deployment("gpt/east")
    assert east.state["breaker"] == "open"
    assert east.state["faults"]
    assert (east.base_url, east.api_key_env) == ("https://east.example/v1", "EAST_KEY")
    assert [found.state["breaker"] for found in yard.client.admin.deployments() if found.name == "gpt/west"] == [
        "closed"
    ]


def test_deployments_change_in_weight_and_are_switched_off(yard: Yard):
    admin = yard.client.admin
    assert admin.change("deployment", "gpt/west", weight=3, max_concurrent=5).max_concurrent == 5  # type: ignore[union-attr]
    admin.disable("deployment", "gpt/west")
    assert not yard.context.manager.catalog.deployment("gpt/west").enabled
    assert refused(lambda: admin.disable("deployment", "gpt/nowhere")).status == 404


def test_a_broken_file_leaves_the_old_catalogue(yard: Yard, tmp_path: Path):
    (tmp_path / "catalogue.toml").write_text("[models.gpt]\nkind = 'magic'")
    assert refused(yard.client.admin.reload_catalog).status == 400
    assert yard.client.admin.model("gpt").price.input == 2.0


# keys, quotas, projects


async def test_keys_are_made_rotated_and_revoked(yard: Yard):
    admin, keyring = yard.client.admin, yard.context.keyring
    made = admin.create_key("shop", "checkout", ["chat", "feedback"], model_types=["team"])
    principal = await keyring.authenticate(made.key)
    assert (principal.key_id, principal.scopes, principal.model_types) == (made.id, {"chat", "feedback"}, {"team"})

    rotated = admin.rotate_key(made.id, grace_s=60)
    assert (await keyring.authenticate(made.key)).key_id == (await keyring.authenticate(rotated.key)).key_id == made.id

    admin.revoke_key(made.id)
    for key in (made.key, rotated.key):
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(key)
    listed = admin.keys(project="shop")
    assert all(key.revoked_at is not None for key in listed)
    assert made.key not in str([key.model_dump() for key in listed])


def test_keys_that_cannot_be(yard: Yard):
    admin = yard.client.admin
    assert refused(lambda: admin.create_key("shop", "x", [])).param == "scopes"
    assert refused(lambda: admin.create_key("shop", "x", ["root"])).status == 400  # type: ignore[list-item]
    assert refused(lambda: admin.create_key("", "x", ["chat"])).param == "project"
    assert refused(lambda: admin.rotate_key("nobody")).status == 404
    assert refused(lambda: admin.revoke_key("nobody")).status == 404
    assert refused(lambda: admin.rotate_key("nobody", grace_s=-1)).param == "grace_s"


def test_quotas_are_set_replaced_and_removed(yard: Yard):
    admin = yard.client.admin
    shop = admin.create_key("shop", "checkout", ["chat"]).project_id
    admin.set_quota("project", "shop", requests_per_minute=60, usd_per_day=5.0)
    assert admin.set_quota("project", "shop", usd_per_month=100.0).subject == shop
    (quota,) = admin.quotas()
    assert (quota.requests_per_minute, quota.usd_per_day, quota.usd_per_month) == (None, None, 100.0)
    admin.remove_quota("project", "shop")
    assert admin.quotas() == []
    assert refused(lambda: admin.remove_quota("project", "shop")).status == 404
    assert refused(lambda: admin.set_quota("project", "nobody", usd_per_day=1)).status == 400
    assert refused(lambda: admin.set_quota("project", "shop", usd_per_day=-1)).param == "usd_per_day"


def message(**columns: Any) -> Message:
    given: dict[str, Any] = {
        "composite": "team",
        "model": "gpt",
        "domain": "forms",
        "complexity": "simple",
        "status": "complete",
        "model_metadata": {},
        "rag_sources": [],
        "processing_metadata": [],
    }
    return Message(**given | columns)


def test_everything_of_a_project_goes_by_one_call(yard: Yard):
    admin = yard.client.admin
    made = admin.create_key("shop", "checkout", ["admin"])
    with yard.context.database.write() as session:
        session.add(message(id="m-1", project_id=made.project_id))
    usage_of(yard.context.database, {"project_id": made.project_id}, {"project_id": "other"})
    with Client(yard.url, made.key) as shop:
        assert shop.admin.catalog().revision >= 0  # its key is known to the server from here on

        deleted = admin.delete_project(made.project_id)
        assert (deleted["message"], deleted["model_usage"], deleted["api_key"]) == (1, 1, 1)
        assert refused(shop.admin.catalog).status == 401
    assert "shop" not in {project.name for project in admin.projects()}
    assert refused(lambda: admin.delete_project(made.project_id)).status == 404


def test_everything_of_a_user_goes_by_one_call(yard: Yard):
    with yard.context.database.write() as session:
        session.add_all([message(id="m-1", user_id="kim/1"), message(id="m-2", user_id="lee")])
    assert yard.client.admin.delete_user("kim/1") == {"message": 1}
    assert yard.client.admin.delete_user("kim/1") == {}


# promotions


def test_champions_are_promoted_through_the_gate_and_rolled_back(yard: Yard, store: MemoryStore):
    admin = yard.client.admin
    assert {found.component: found.state for found in admin.champions()} == {"classifier": "none", "router": "none"}
    admin.promote("router", "1", reason="It is better.", verdict=verdict("1", None).to_json())
    second = admin.promote("router", "2", reason="It is better still.", verdict=verdict("2", "1").to_json())
    assert (second.action, second.from_version, second.took_effect) == ("promote", "1", True)
    assert second.who.startswith("operator (")

    back = admin.rollback("router", reason="It was not.")
    assert (back.action, back.to_version) == ("rollback", "1")
    assert [move.to_version for move in admin.promotions("router")] == ["1", "2", "1"]
    assert {found.component: found.version for found in admin.champions()} == {"classifier": None, "router": "1"}
    assert store.alias("router", "champion") == "1"


def test_the_gate_refuses(yard: Yard, store: MemoryStore):
    admin = yard.client.admin
    worse = verdict("1", None, score=Difference(-0.05, -0.07, -0.03))
    for call in (
        lambda: admin.promote("router", "1", reason="Please.", verdict=worse.to_json()),
        lambda: admin.promote("router", "2", reason="Please.", verdict=verdict("1", None).to_json()),
        lambda: admin.rollback("router", reason="Back."),
    ):
        error = refused(call)
        assert (error.status, error.code) == (409, "promotion_refused")
    assert refused(lambda: admin.promote("router", "1", reason="Please.", verdict={"outcome": "better"})).status == 400
    assert refused(lambda: admin.promote("router", "1", reason=" ", verdict={})).param == "reason"
    assert admin.promotions() == []
    assert store.alias("router", "champion") is None


# flags, alerts, caches


def test_flags_are_set_and_removed(yard: Yard):
    admin = yard.client.admin
    rules = [{"attribute": "plan", "values": ["free"], "on": False}]
    admin.set_flag("new/router", enabled=True, share=0.25, rules=rules)
    (flag,) = admin.flags()
    assert (flag.name, flag.enabled, flag.share, flag.rules[0].values) == ("new/router", True, 0.25, ["free"])
    assert not yard.context.flags.is_on("new/router", "anyone", {"plan": "free"})
    admin.remove_flag("new/router")
    assert admin.flags() == []
    assert refused(lambda: admin.remove_flag("new/router")).status == 404
    assert refused(lambda: admin.set_flag("x", enabled=True, share=2)).param == "share"


def test_alerts_are_raised_shown_and_resolved(yard: Yard):
    admin = yard.client.admin
    assert admin.alerts() == []
    usage_of(yard.context.database, {"cost_usd": 2.5})
    (alert,) = admin.evaluate_alerts()
    assert (alert.kind, alert.value, alert.line, alert.resolved_at) == ("spending", 2.5, 1.0, None)
    assert admin.alerts(open_only=True)[0].message.startswith("Cost over the last 1 d: $ 2.50")
    with yard.context.database.write() as session:
        session.execute(delete(ModelUsage))
    assert admin.evaluate_alerts() == []
    assert admin.alerts()[0].resolved_at is not None
    assert admin.alert_rules()["rules"]["spending"]["above"] == 1.0
    assert refused(lambda: admin.alerts(limit=0)).param == "limit"


def test_alert_rules_are_set_checked_and_taken_back(yard: Yard):
    admin = yard.client.admin
    usage_of(yard.context.database, {"cost_usd": 2.5})
    rules = admin.alert_rules()
    rules["rules"]["spending"]["above"] = 5.0
    assert admin.set_alert_rules(rules) == admin.alert_rules() == rules
    assert admin.evaluate_alerts() == []
    for wrong, place in (
        ({"rules": {"x": {"metric": "mood", "above": 1}}}, "rules.x.metric"),
        ({"rules": {"x": {"metric": "error_rate", "above": 2}}}, "rules.x"),
        ({"rules": {"a\x00": {"metric": "cost_usd", "above": 1}}}, None),
        ({"savings": {"margin": 3}}, "savings.margin"),
        ({"colour": "red"}, "colour"),
    ):
        error = refused(lambda wrong=wrong: admin.set_alert_rules(wrong))
        assert (error.status, error.param) == (400, place) or place is None, (wrong, str(error))
    assert admin.reset_alert_rules()["rules"]["spending"]["above"] == 1.0
    assert [alert.kind for alert in admin.evaluate_alerts()] == ["spending"]


def test_caches_say_how_often_they_helped_and_are_cleared(yard: Yard):
    caches, key = yard.context.caches, passages_key("1", "q", 4)
    caches.passages.put(key, ())
    assert caches.passages.get(key) == ()
    caches.passages.get(b"other")
    found = {cache.name: cache for cache in yard.client.admin.caches()}
    assert (found["passages"].hit_rate, found["answers"].hit_rate) == (0.5, None)
    yard.client.admin.clear_caches()
    assert caches.passages.get(key) is None


# who may


@pytest.mark.parametrize("scopes", [["chat"], ["analytics", "feedback", "embeddings"]])
def test_other_scopes_are_kept_out(yard: Yard, scopes: list[str]):
    with yard.client_with(*scopes) as client:
        error = refused(client.admin.models)
    assert (error.status, error.code) == (403, "insufficient_permissions")
    assert "'admin'" in str(error)


@pytest.mark.parametrize("key", [None, "nonsense", "my-aaaaaaaa-" + "b" * 40])
def test_strangers_are_kept_out_of_everything(yard: Yard, key: str | None):
    with Client(yard.url, key) as client:
        for call in (client.admin.models, client.admin.keys, client.analytics.usage, client.admin.clear_caches):
            error = refused(call)
            assert (error.status, error.code) == (401, "invalid_api_key")


def test_every_route_asks_who_is_there(yard: Yard):
    for app in ("admin", "analytics"):
        assert httpx.get(f"{yard.url}/{app}/openapi.json").status_code == 401
        schema = httpx.get(f"{yard.url}/{app}/openapi.json", headers={"Authorization": f"Bearer {yard.key}"}).json()
        for path, methods in schema["paths"].items():
            for method in methods:
                found = httpx.request(method, f"{yard.url}/{app}{path}")
                assert found.status_code == 401, (method, path)
                assert found.json()["error"]["code"] == "invalid_api_key"


def test_a_schema_is_for_those_who_may_call_what_it_describes(yard: Yard):
    _, key = yard.context.keyring.create("ops", "reader", ["analytics"])
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{yard.url}/admin/openapi.json", headers=headers).status_code == 403
    schema = httpx.get(f"{yard.url}/analytics/openapi.json", headers=headers).json()
    assert (schema["info"]["title"], schema["servers"]) == ("Modelyard analytics", [{"url": "/analytics"}])


def test_without_authentication_programs_on_this_machine_are_answered_and_web_pages_are_not(
    tmp_path: Path, sqlite: Database
):
    with admin_yard(tmp_path, sqlite, auth=False) as yard:
        assert yard.client.admin.model("gpt").name == "gpt"
        yard.client.admin.create_key("shop", "first", ["chat"])
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "evil.example:80"}):
            found = httpx.delete(f"{yard.url}/admin/caches", headers=headers)
            assert found.status_code == 403
            assert "this machine only" in found.json()["error"]["message"]


# errors


def test_errors_are_openais_and_say_nothing_of_values(yard: Yard):
    headers = {"Authorization": f"Bearer {yard.key}"}
    found = httpx.put(f"{yard.url}/admin/quotas", headers=headers, json={"scope": "key", "subject": ["hidden-value"]})
    assert found.status_code == 400
    assert found.json() == {
        "error": {
            "message": "The field 'subject' is invalid: Input should be a valid string.",
            "type": "invalid_request_error",
            "param": "subject",
            "code": None,
        }
    }
    for method, path, status in (("GET", "/admin/nothing", 404), ("PUT", "/admin/models", 405)):
        found = httpx.request(method, f"{yard.url}{path}", headers=headers)
        assert (found.status_code, set(found.json()["error"])) == (status, {"message", "type", "param", "code"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"name": "x", "fields": {"\\u0000": 1}}',
        b'{"name": "x", "fields": {"a": ["\\ud800"]}}',
        b'{"a":' * 100_000,
    ],
)
def test_bodies_that_are_none_are_refused(yard: Yard, body: bytes):
    headers = {"Authorization": f"Bearer {yard.key}", "Content-Type": "application/json"}
    found = httpx.post(f"{yard.url}/admin/models", headers=headers, content=body)
    assert found.status_code == 400
    assert found.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE project; --", "\x00", "a" * 300, "☃", "../..", "%2e%2e", "a/b?c#d&e=f"]
)
def test_odd_text_is_stored_or_refused_and_breaks_nothing(database: Database, tmp_path: Path, text: str):
    with admin_yard(tmp_path, database) as yard:
        calls: list[Callable[[], Any]] = [
            lambda: yard.client.admin.create_key(text, text, ["chat"]),
            lambda: yard.client.admin.set_quota("project", text, usd_per_day=1.0),
            lambda: yard.client.admin.set_flag(text, enabled=True, description=text),
            lambda: yard.client.admin.register_model(text, {"kind": "openai", "base_url": text}),
            lambda: yard.client.admin.change("model", text, description=text),
            lambda: yard.client.admin.delete_user(text),
            lambda: yard.client.admin.delete_project(text),
            lambda: yard.client.admin.keys(project=text),
            lambda: yard.client.analytics.usage(only={"project": text, "model": text}),
        ]
        for call in calls:
            try:
                call()
            except ApiError as error:
                assert error.status is not None, error
                assert 400 <= error.status < 500, error
        assert yard.client.admin.projects()


@pytest.mark.parametrize("declared", [True, False])
def test_long_bodies_are_refused_also_of_strangers(yard: Yard, declared: bool):
    long = b'{"name": "' + b"x" * (2 << 20)
    content = long if declared else iter([long])
    found = httpx.post(f"{yard.url}/admin/models", content=content, headers={"Content-Type": "application/json"})
    assert found.status_code == 413
    assert found.json()["error"]["type"] == "invalid_request_error"


def test_a_database_that_is_gone_is_said_so(yard: Yard):
    assert yard.client.admin.quotas() == []
    with yard.context.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE quota RENAME TO elsewhere")
    error = refused(yard.client.admin.quotas)
    assert (error.status, error.code) == (503, "database_unavailable")
    assert yard.client.admin.model("gpt").served


def test_a_server_that_is_not_there_is_said_so():
    with Client("http://127.0.0.1:1", timeout_s=5) as client:
        error = refused(client.admin.models)
    assert error.status is None
    assert "cannot be reached" in str(error)
