"""The tables, one schema for SQLite and PostgreSQL. Times are UTC, money is USD, durations are milliseconds.

Rows that are written after the fact (message, model_usage, exposure) name projects, keys and messages without foreign keys: a charge
that has been made is recorded, whatever was deleted meanwhile. Deleting a project or a user goes through `modelyard.storage.retention`.
"""

from modelyard.storage.tables.base import NAMING, Base, UtcDateTime, now, ordered_id
from modelyard.storage.tables.catalogue import KnowledgeBase, KnowledgeSource, ModelConfig
from modelyard.storage.tables.control import (
    Alert,
    ApiKey,
    Deletion,
    Project,
    Quota,
    RolloutFlag,
    Spending,
    StoredSetting,
)
from modelyard.storage.tables.learning import AliasChange, Experiment, Exposure, Feedback
from modelyard.storage.tables.served import REQUEST_KINDS, Fragment, Message, ModelUsage

__all__ = [
    "NAMING",
    "REQUEST_KINDS",
    "Alert",
    "AliasChange",
    "ApiKey",
    "Base",
    "Deletion",
    "Experiment",
    "Exposure",
    "Feedback",
    "Fragment",
    "KnowledgeBase",
    "KnowledgeSource",
    "Message",
    "ModelConfig",
    "ModelUsage",
    "Project",
    "Quota",
    "RolloutFlag",
    "Spending",
    "StoredSetting",
    "UtcDateTime",
    "now",
    "ordered_id",
]
