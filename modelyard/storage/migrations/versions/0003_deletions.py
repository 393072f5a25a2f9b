"""Whose rows were deleted, and what operators set while everything runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "deletion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=False),
        sa.Column("keep_charges", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('user', 'project')", name=op.f("ck_deletion_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion")),
    )
    op.create_index(op.f("ix_deletion_kind_subject"), "deletion", ["kind", "subject"])
    op.create_table(
        "stored_setting",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("updated_by", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stored_setting")),
    )


def downgrade() -> None:
    """Go back to 0002: what was deleted and still lies in a spool is stored again then."""
    op.drop_table("stored_setting")
    op.drop_table("deletion")
