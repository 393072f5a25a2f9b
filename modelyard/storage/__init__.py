"""The application database: answers, usage, feedback, alias history, and the questions that dashboards ask of them."""

from modelyard.storage.alias_history import AliasMove, alias_moves, append_alias_move
from modelyard.storage.answers import record_answer, record_feedback
from modelyard.storage.database import Database, StorageError
from modelyard.storage.retention import delete_expired, delete_project, delete_user
from modelyard.storage.tables import AliasChange, Feedback, Message, ModelUsage

__all__ = [
    "AliasChange",
    "AliasMove",
    "Database",
    "Feedback",
    "Message",
    "ModelUsage",
    "StorageError",
    "alias_moves",
    "append_alias_move",
    "delete_expired",
    "delete_project",
    "delete_user",
    "record_answer",
    "record_feedback",
]
