"""Usage is never negative: a negative cost would lower what budgets begin from.

Rows that are at fault stay, with 0 in the place of the number that cannot be, and say that they are estimated.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = "model_usage"
NUMBERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
NAME = "ck_model_usage_amounts"


def upgrade() -> None:
    for column in NUMBERS:
        op.execute(f"UPDATE {TABLE} SET {column} = 0, estimated = true WHERE {column} < 0")  # noqa: S608
    rule = " AND ".join(f"{column} >= 0" for column in NUMBERS)
    with op.batch_alter_table(TABLE) as batch:
        batch.create_check_constraint(op.f(NAME), rule)


def downgrade() -> None:
    with op.batch_alter_table(TABLE) as batch:
        batch.drop_constraint(op.f(NAME), type_="check")
