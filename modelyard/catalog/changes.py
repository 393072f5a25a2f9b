"""What an operator can ask of the catalogue, and the stored change that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast

import pydantic

from modelyard.catalog.building import Entries, Entry, Fields, settled
from modelyard.catalog.overlay import Change, EntryKind, Key, deployment_of, plain, settled_patch
from modelyard.catalog.rows import CompositeRow, DeploymentRow, ModelRow, Name, validated
from modelyard.errors import InvalidSetting, UnknownModel

Kind = Literal["model", "composite", "deployment"]
Changes = Mapping[Key, Change]

ROWS: Final[dict[Kind, type[pydantic.BaseModel]]] = {
    "model": ModelRow,
    "composite": CompositeRow,
    "deployment": DeploymentRow,
}
_NAME: Final[pydantic.TypeAdapter[str]] = pydantic.TypeAdapter(Name)


class Request(Protocol):
    """Something that is to become of one entry."""

    def change(self, entries: Entries, changes: Changes) -> Change:
        """Return the change that the entry has from now on.

        Args:
            entries: As they are, changes included.
            changes: Those that entries have by now.

        Raises:
            UnknownModel: There is no such entry.
            InvalidSetting: It breaks a rule that can be told without the rest of the catalogue.
        """
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """A new model or composite."""

    kind: EntryKind
    name: str
    fields: Mapping[str, Any]

    def change(self, entries: Entries, changes: Changes) -> Change:
        """Check the fields by themselves."""
        _check_name(self.name)
        if self.name in _of(entries, self.kind):
            raise InvalidSetting(f"there is a {self.kind} of that name already")
        row = validated(ROWS[self.kind], plain(self.fields), f"{self.kind}s.{self.name}")
        fields = row.model_dump(mode="json", exclude_unset=True)
        return Change(self.kind, self.name, "register", settled(fields) if self.kind == "model" else fields)


@dataclass(frozen=True, slots=True)
class Patch:
    """New values for some fields, null for a field's default."""

    kind: Kind
    name: str
    fields: Mapping[str, Any]

    def change(self, entries: Entries, changes: Changes) -> Change:
        """Put the patch into the change that the entry has by now."""
        patch = plain(self.fields)
        if not patch:
            raise InvalidSetting("there is no field to change")
        _check_fields(self.kind, patch)
        if self.kind != "deployment":
            return _patched(entries, changes, self.kind, self.name, patch)
        model, key = _deployment(entries, self.name)
        return _patched(entries, changes, "model", model, {"deployments": {key: patch}})


@dataclass(frozen=True, slots=True)
class Removal:
    """Away with an entry, also one that stands in a file."""

    kind: Kind
    name: str

    def change(self, entries: Entries, changes: Changes) -> Change:
        """Remember that it was removed."""
        if self.kind != "deployment":
            _entry(entries, self.kind, self.name)
            return Change(self.kind, self.name, "remove", {})
        model, key = _deployment(entries, self.name)
        return _patched(entries, changes, "model", model, {"deployments": {key: None}})


@dataclass(frozen=True, slots=True)
class Reset:
    """Back to what the files say."""

    kind: EntryKind
    name: str

    def change(self, entries: Entries, changes: Changes) -> Change:
        """Take every change back."""
        if (self.kind, self.name) not in changes:
            _entry(entries, self.kind, self.name)
        return Change(self.kind, self.name, "change", {})


def _patched(entries: Entries, changes: Changes, kind: EntryKind, name: str, patch: Fields) -> Change:
    entry = _entry(entries, kind, name)
    if kind == "model":
        patch = settled_patch(entry.fields, patch)
    return changes.get((kind, name), Change(kind, name, "change", {})).then(patch)


def _of(entries: Entries, kind: EntryKind) -> Mapping[str, Entry]:
    return entries.models if kind == "model" else entries.composites


def _entry(entries: Entries, kind: EntryKind, name: str) -> Entry:
    try:
        return _of(entries, kind)[name]
    except KeyError:
        what = "base model" if kind == "model" else "composite model"
        raise UnknownModel(f"No {what} is called {name!r}.") from None


def _deployment(entries: Entries, name: str) -> tuple[str, str]:
    found = deployment_of(entries, name)
    if found is None:
        raise UnknownModel(f"No deployment is called {name!r}.")
    return found


def _check_name(name: str) -> None:
    try:
        _NAME.validate_python(name, strict=True)
    except pydantic.ValidationError as error:
        rule = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidSetting(f"the name is invalid ({rule})") from None


def _check_fields(kind: Kind, patch: Fields) -> None:
    """See to it that a field that nobody knows is refused, too, where its new value is null, which would otherwise do nothing."""
    known = ROWS[kind].model_fields
    for name in patch:
        if name not in known:
            raise InvalidSetting(f"a {kind} has no field {name!r}; there are {', '.join(known)}")
    deployments = patch.get("deployments")
    if isinstance(deployments, dict):
        for fields in cast("dict[str, Any]", deployments).values():
            if isinstance(fields, dict):
                _check_fields("deployment", cast("Fields", fields))
