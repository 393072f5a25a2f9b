"""Changes that lie over the entries of the catalogue's files: what is registered, changed or removed while everything runs.

A change's fields are a merge patch (RFC 7396): tables are merged, and null stands for "as if the file did not name it".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from modelyard.catalog.building import Entries, Entry, Fields, settled
from modelyard.catalog.rows import ADDRESS_FIELDS
from modelyard.errors import InvalidSetting

EntryKind = Literal["model", "composite"]
Action = Literal["register", "change", "remove"]
Key = tuple[EntryKind, str]

ACTIONS: Final[dict[str, Action]] = {"register": "register", "change": "change", "remove": "remove"}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one entry: its fields where it was registered, a patch where it was changed, nothing where it was removed."""

    kind: EntryKind
    name: str
    action: Action
    fields: Fields

    @property
    def key(self) -> Key:
        """Kind and name: there is one change of an entry, into which later ones go."""
        return self.kind, self.name

    def then(self, patch: Fields) -> Change:
        """Return this change with a later patch in it; what was registered keeps no nulls, a patch does."""
        merged = _merged(self.fields, patch, keep_nulls=self.action == "change")
        return Change(self.kind, self.name, self.action, merged)


def overlaid(base: Entries, changes: Iterable[Change]) -> tuple[Entries, tuple[str, ...]]:
    """Return the entries with the changes over them, and a sentence for each change that has nothing to lie over any more."""
    found: dict[EntryKind, dict[str, Entry]] = {"model": dict(base.models), "composite": dict(base.composites)}
    notices: list[str] = []
    for change in changes:
        entries = found[change.kind]
        if change.action == "register":
            entries[change.name] = Entry(change.fields)
        elif change.action == "remove":
            entries.pop(change.name, None)
        elif change.name in entries:
            if change.fields:
                fields = _merged(entries[change.name].fields, change.fields, keep_nulls=False)
                entries[change.name] = Entry(fields, entries[change.name].origin)
        elif change.fields:
            notices.append(
                f"A stored change of the {change.kind} {change.name!r} has no effect: the catalogue's files no longer have it."
            )
    return Entries(found["model"], found["composite"]), tuple(notices)


def plain(fields: object) -> dict[str, Any]:
    """Return fields as JSON gives them back: a copy that nobody else holds.

    Raises:
        InvalidSetting: They are not a JSON object.
    """
    try:
        copied: Any = json.loads(json.dumps(fields, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise InvalidSetting("the fields must be values that JSON can carry") from None
    if not isinstance(copied, dict):
        raise InvalidSetting("the fields must be a table")
    return cast("dict[str, Any]", copied)


def settled_patch(fields: Fields, patch: Fields) -> dict[str, Any]:
    """Return a patch of a model's fields with the address that the model gives itself where its deployment stands.

    Args:
        fields: The model's, settled.
        patch: What is to change; `base_url` null takes the model's own deployment away.
    """
    deployments = _table(fields.get("deployments"))
    if "" not in deployments:
        return dict(patch) if deployments else settled(patch)
    moved: dict[str, Any] | None = {name: value for name, value in patch.items() if name in ADDRESS_FIELDS}
    if not moved:
        return dict(patch)
    if "base_url" in moved and moved["base_url"] is None:
        moved = None
    rest = {name: value for name, value in patch.items() if name not in ADDRESS_FIELDS}
    return _merged(rest, {"deployments": {"": moved}}, keep_nulls=True)


def deployment_of(entries: Entries, name: str) -> tuple[str, str] | None:
    """Return the model and the key of a deployment, or None where there is none of that name."""
    for model, entry in entries.models.items():
        for key in _table(entry.fields.get("deployments")):
            if name == (f"{model}/{key}" if key else model):
                return model, key
    return None


def _merged(fields: Fields, patch: Fields, *, keep_nulls: bool) -> dict[str, Any]:
    merged = dict(fields)
    for name, value in patch.items():
        if value is None and not keep_nulls:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(_table(merged.get(name)), cast("Fields", value), keep_nulls=keep_nulls)
        else:
            merged[name] = value
    return merged


def _table(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
