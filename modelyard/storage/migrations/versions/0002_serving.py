"""Projects, keys, quotas, overlays of the catalogue, knowledge, experiments, alerts; usage by attempt, outcome and domain.

Existing answers and usage stay. Their usage takes composite, domain, complexity and status from its message.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
STATUSES = "status IN ('complete', 'degraded', 'failed', 'cancelled', 'orphaned')"
NEW_TABLES = (
    "fragment", "knowledge_source", "knowledge_base", "model_config", "exposure", "experiment",
    "api_key", "project", "quota", "spending", "alert", "rollout_flag",
)  # fmt: skip


def upgrade() -> None:
    _control()
    _catalogue()
    _experiments()
    _upgrade_usage()  # before its messages are touched
    _upgrade_message()
    _upgrade_feedback()
    _fragments()


def downgrade() -> None:
    """Go back to 0001.

    New tables are dropped with what is in them, usage without a message is dropped, statuses that were unknown become 'degraded'.
    """
    for table in NEW_TABLES:
        op.drop_table(table)
    _downgrade_feedback()
    _downgrade_message()
    _downgrade_usage()


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _column(name: str, kind: Any, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*(columns or ("id",)), name=op.f(f"pk_{table}"))


def _check(table: str, column: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{column}"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _child_of(parent: str, table: str) -> sa.ForeignKeyConstraint:
    column = f"{parent}_id"
    return sa.ForeignKeyConstraint(
        [column], [f"{parent}.id"], name=op.f(f"fk_{table}_{column}_{parent}"), ondelete="CASCADE"
    )


def _index(table: str, *columns: str, **options: Any) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), **options)


def _control() -> None:
    op.create_table(
        "project",
        _text("id", 80),
        _text("name", 200),
        _column("created_at", MOMENT),
        _column("settings", sa.JSON()),
        _key("project"),
        _unique("project", "name"),
    )
    op.create_table(
        "api_key",
        _text("id", 80),
        _text("project_id", 80),
        _text("name", 200),
        _text("prefix", 20),
        _text("hash", 200),
        _column("scopes", sa.JSON()),
        _column("model_types", sa.JSON(), nullable=True),
        _column("created_at", MOMENT),
        _column("expires_at", MOMENT, nullable=True),
        _column("revoked_at", MOMENT, nullable=True),
        _text("replaced_by", 80, nullable=True),
        _column("last_used_at", MOMENT, nullable=True),
        _child_of("project", "api_key"),
        _key("api_key"),
    )
    _index("api_key", "project_id")
    _index("api_key", "prefix", unique=True)
    scope = "scope IN ('key', 'project', 'model_type')"
    op.create_table(
        "quota",
        _column("id", sa.Integer()),
        _text("scope", 20),
        _text("subject", 200),
        _column("requests_per_minute", sa.Integer(), nullable=True),
        _column("tokens_per_minute", sa.Integer(), nullable=True),
        _column("usd_per_day", sa.Double(), nullable=True),
        _column("usd_per_month", sa.Double(), nullable=True),
        _check("quota", "scope", scope),
        _key("quota"),
        _unique("quota", "scope", "subject"),
    )
    op.create_table(
        "spending",
        _text("scope", 20),
        _text("subject", 200),
        _text("period", 10),
        _column("spent_usd", sa.Double()),
        _check("spending", "scope", scope),
        _key("spending", "scope", "subject", "period"),
    )
    op.create_table(
        "alert",
        _column("id", sa.Integer()),
        _text("kind", 200),
        _text("severity", 20),
        _text("subject", 200),
        _column("message", sa.Text()),
        _column("value", sa.Double()),
        _column("line", sa.Double()),
        _column("created_at", MOMENT),
        _column("resolved_at", MOMENT, nullable=True),
        _column("details", sa.JSON()),
        _key("alert"),
    )
    _index("alert", "created_at")
    op.create_table(
        "rollout_flag",
        _text("name", 200),
        _column("description", sa.Text()),
        _column("enabled", sa.Boolean()),
        _column("share", sa.Double()),
        _column("rules", sa.JSON()),
        _column("updated_at", MOMENT),
        _text("updated_by", 200),
        _key("rollout_flag", "name"),
    )


def _catalogue() -> None:
    op.create_table(
        "model_config",
        _column("id", sa.Integer()),
        _text("kind", 20),
        _text("name", 200),
        _column("body", sa.JSON()),
        _column("enabled", sa.Boolean()),
        _column("revision", sa.Integer()),
        _column("updated_at", MOMENT),
        _text("updated_by", 200),
        _check("model_config", "kind", "kind IN ('model', 'composite', 'deployment')"),
        _key("model_config"),
        _unique("model_config", "kind", "name"),
    )
    _index("model_config", "revision")
    op.create_table(
        "knowledge_base",
        _text("id", 80),
        _text("name", 200),
        _text("version", 80),
        _text("embedder", 200),
        _column("created_at", MOMENT),
        _column("settings", sa.JSON()),
        _key("knowledge_base"),
        _unique("knowledge_base", "name"),
    )
    op.create_table(
        "knowledge_source",
        _text("id", 80),
        _text("knowledge_base_id", 80),
        _column("uri", sa.Text()),
        _text("kind", 80),
        _text("sha256", 64),
        _column("title", sa.Text()),
        _column("fetched_at", MOMENT),
        _text("status", 20),
        _column("metadata", sa.JSON()),
        _child_of("knowledge_base", "knowledge_source"),
        _key("knowledge_source"),
    )
    _index("knowledge_source", "knowledge_base_id")


def _experiments() -> None:
    op.create_table(
        "experiment",
        _text("id", 80),
        _text("name", 200),
        _text("kind", 80),
        _column("config", sa.JSON()),
        _text("status", 20),
        _column("started_at", MOMENT, nullable=True),
        _column("ended_at", MOMENT, nullable=True),
        _column("verdict", sa.JSON(), nullable=True),
        _key("experiment"),
    )
    _index("experiment", "name")
    op.create_table(
        "exposure",
        _text("id", 80),
        _text("experiment_id", 80),
        _text("message_id", 80, nullable=True),
        _text("arm", 200),
        _column("propensity", sa.Double()),
        _text("unit", 200),
        _column("created_at", MOMENT),
        _child_of("experiment", "exposure"),
        _key("exposure"),
    )
    _index("exposure", "experiment_id", "created_at")
    _index("exposure", "message_id")
    _index("exposure", "unit")


def _fragments() -> None:
    op.create_table(
        "fragment",
        _text("id", 80),
        _text("message_id", 80),
        _column("position", sa.Integer()),
        _text("kind", 20),
        _column("text", sa.Text()),
        _text("language", 80, nullable=True),
        _column("start", sa.Integer()),
        _column("end", sa.Integer()),
        _check("fragment", "kind", "kind IN ('text', 'code', 'citation')"),
        _child_of("message", "fragment"),
        _key("fragment"),
    )
    _index("fragment", "message_id", "position")


def _upgrade_message() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("ck_message_status"), "message", type_="check")
    # SQLite's table is made anew, and loses the old check because reflection does not see it.
    with op.batch_alter_table("message") as batch:
        for name, length in (
            ("project_id", 80), ("api_key_id", 80), ("user_id", 200), ("conversation", 200), ("request_id", 200),
        ):  # fmt: skip
            batch.add_column(_text(name, length, nullable=True))
        batch.alter_column("prompt", existing_type=sa.Text(), nullable=True)
        batch.alter_column("answer", existing_type=sa.Text(), nullable=True)
        batch.create_check_constraint(op.f("ck_message_status"), STATUSES)
    _index("message", "project_id", "created_at")
    named = sa.text("user_id IS NOT NULL")
    _index("message", "user_id", sqlite_where=named, postgresql_where=named)


def _downgrade_message() -> None:
    op.drop_index(op.f("ix_message_user_id"), "message")
    op.drop_index(op.f("ix_message_project_id_created_at"), "message")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("ck_message_status"), "message", type_="check")
    op.execute("UPDATE message SET prompt = coalesce(prompt, ''), answer = coalesce(answer, '')")
    op.execute("UPDATE message SET status = 'degraded' WHERE status NOT IN ('complete', 'degraded')")
    with op.batch_alter_table("message") as batch:
        for name in ("project_id", "api_key_id", "user_id", "conversation", "request_id"):
            batch.drop_column(name)
        batch.alter_column("prompt", existing_type=sa.Text(), nullable=False)
        batch.alter_column("answer", existing_type=sa.Text(), nullable=False)
        batch.create_check_constraint(op.f("ck_message_status"), "status IN ('complete', 'degraded')")


def _upgrade_feedback() -> None:
    for name, length in (("user_id", 200), ("project_id", 80)):
        op.add_column("feedback", _text(name, length, nullable=True))
        _index("feedback", name)


def _downgrade_feedback() -> None:
    for name in ("user_id", "project_id"):
        op.drop_index(op.f(f"ix_feedback_{name}"), "feedback")
        op.drop_column("feedback", name)


def _upgrade_usage() -> None:
    _set_aside_usage()
    op.create_table(
        "model_usage",
        _text("id", 80),
        _column("created_at", MOMENT),
        _text("message_id", 80, nullable=True),
        _text("project_id", 80, nullable=True),
        _text("api_key_id", 80, nullable=True),
        _text("kind", 20),
        _text("status", 20),
        _text("error_kind", 40, nullable=True),
        _text("composite", 200, nullable=True),
        _text("model", 200),
        _text("deployment", 200, nullable=True),
        _text("domain", 80, nullable=True),
        _text("complexity", 80, nullable=True),
        _column("prompt_tokens", sa.Integer()),
        _column("cached_tokens", sa.Integer()),
        _column("completion_tokens", sa.Integer()),
        _column("cost_usd", sa.Double()),
        _column("estimated", sa.Boolean()),
        _column("latency_ms", sa.Double()),
        _column("first_token_ms", sa.Double(), nullable=True),
        _column("attempts", sa.Integer()),
        _column("fallback", sa.Boolean()),
        _column("cache_hit", sa.Boolean()),
        _check("model_usage", "kind", "kind IN ('chat', 'embedding', 'moderation', 'batch', 'attempt', 'orphan')"),
        _check("model_usage", "status", STATUSES),
        _key("model_usage"),
    )
    # An old number becomes 26 digits: in its old order, and before every ULID.
    op.execute(
        "INSERT INTO model_usage (id, created_at, message_id, kind, status, composite, model, domain, complexity,"
        " prompt_tokens, cached_tokens, completion_tokens, cost_usd, estimated, latency_ms, attempts, fallback, cache_hit)"
        " SELECT substr('00000000000000000000000000' || u.id, 1 + length(CAST(u.id AS VARCHAR(26)))),"
        " u.created_at, u.message_id, 'chat', m.status, m.composite, u.model, m.domain, m.complexity,"
        " u.prompt_tokens, 0, u.completion_tokens, u.cost_usd, u.estimated, u.latency_ms, 1, false, false"
        " FROM model_usage_before u JOIN message m ON m.id = u.message_id"
    )
    op.drop_table("model_usage_before")
    _index("model_usage", "created_at")
    _index("model_usage", "message_id")
    for column in ("project_id", "api_key_id", "model"):
        _index("model_usage", column, "created_at")


def _downgrade_usage() -> None:
    _set_aside_usage()
    op.create_table(
        "model_usage",
        _column("id", sa.Integer()),
        _text("message_id", 80),
        _text("model", 200),
        _column("prompt_tokens", sa.Integer()),
        _column("completion_tokens", sa.Integer()),
        _column("cost_usd", sa.Double()),
        _column("latency_ms", sa.Double()),
        _column("estimated", sa.Boolean()),
        _column("created_at", MOMENT),
        _child_of("message", "model_usage"),
        _key("model_usage"),
    )
    op.execute(
        "INSERT INTO model_usage"
        " (message_id, model, prompt_tokens, completion_tokens, cost_usd, latency_ms, estimated, created_at)"
        " SELECT u.message_id, u.model, u.prompt_tokens, u.completion_tokens, u.cost_usd, u.latency_ms, u.estimated, u.created_at"
        " FROM model_usage_before u JOIN message m ON m.id = u.message_id ORDER BY u.id"
    )
    op.drop_table("model_usage_before")
    _index("model_usage", "message_id")
    _index("model_usage", "created_at")


def _set_aside_usage() -> None:
    """Move the rows to a bare table, so that the table of the other shape can have its names."""
    op.execute("CREATE TABLE model_usage_before AS SELECT * FROM model_usage")
    op.drop_table("model_usage")
