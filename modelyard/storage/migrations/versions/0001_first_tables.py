"""Message, ModelUsage, Feedback, AliasChange."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _messages()
    _alias_changes()


def downgrade() -> None:
    for table in ("alias_change", "feedback", "model_usage", "message"):
        op.drop_table(table)


def _messages() -> None:
    op.create_table(
        "message",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("composite", sa.String(200), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("domain", sa.String(80), nullable=False),
        sa.Column("complexity", sa.String(80), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("model_metadata", sa.JSON(), nullable=False),
        sa.Column("rag_sources", sa.JSON(), nullable=False),
        sa.Column("processing_metadata", sa.JSON(), nullable=False),
        sa.CheckConstraint("status IN ('complete', 'degraded')", name=op.f("ck_message_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
    )
    op.create_index(op.f("ix_message_created_at"), "message", ["created_at"])
    op.create_table(
        "model_usage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(80), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        _to_message("model_usage"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_usage")),
    )
    op.create_index(op.f("ix_model_usage_message_id"), "model_usage", ["message_id"])
    op.create_index(op.f("ix_model_usage_created_at"), "model_usage", ["created_at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(80), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("wrong_model", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_feedback_rating")),
        _to_message("feedback"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_message_id"), "feedback", ["message_id"])


def _to_message(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["message_id"], ["message.id"], name=op.f(f"fk_{table}_message_id_message"), ondelete="CASCADE"
    )


def _alias_changes() -> None:
    op.create_table(
        "alias_change",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("component", sa.String(80), nullable=False),
        sa.Column("alias", sa.String(80), nullable=False),
        sa.Column("from_version", sa.String(80), nullable=True),
        sa.Column("to_version", sa.String(80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("run_ids", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=True),
        sa.Column("action", sa.String(20), nullable=False),
        sa.CheckConstraint("action IN ('promote', 'rollback', 'bootstrap')", name=op.f("ck_alias_change_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_change")),
    )
    op.create_index(op.f("ix_alias_change_component_alias"), "alias_change", ["component", "alias"])
