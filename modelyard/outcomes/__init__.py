"""The outcome table: one row per prompt × model, the unit of all routing work."""

from modelyard.outcomes.matrix import OutcomeMatrix
from modelyard.outcomes.schema import OPTIONAL, REQUIRED, SCHEMA
from modelyard.outcomes.table import concat, read_outcomes, validate, write_outcomes

__all__ = [
    "OPTIONAL",
    "REQUIRED",
    "SCHEMA",
    "OutcomeMatrix",
    "concat",
    "read_outcomes",
    "validate",
    "write_outcomes",
]
