"""Rollout flags: switches that an operator turns while everything runs, for everybody, for a share, or by attribute."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import pydantic
from sqlalchemy import select

from modelyard.errors import InvalidInput
from modelyard.storage.database import Database
from modelyard.storage.tables import RolloutFlag, now

BUCKETS: Final = 2**64


@dataclass(frozen=True, slots=True)
class FlagRule:
    """For units whose attribute has one of these values, the flag is `on` or not, whatever the share says."""

    attribute: str
    values: tuple[str, ...]
    on: bool = True


@dataclass(frozen=True, slots=True)
class Flag:
    """A rollout flag.

    Attributes:
        name: Its name.
        description: What it switches, for a person.
        enabled: Off for everybody where this is false, whatever the rest says.
        share: Share of units it is on for, 0..1; a larger share only adds units.
        rules: Looked at before the share; the first that fits decides.
    """

    name: str
    description: str = ""
    enabled: bool = False
    share: float = 1.0
    rules: tuple[FlagRule, ...] = ()

    def __post_init__(self) -> None:
        """Check.

        Raises:
            InvalidInput: The name is empty, or the share not within 0..1.
        """
        if not self.name.strip() or len(self.name) > 200:
            raise InvalidInput(f"A flag needs a name of 1 to 200 characters, but got {self.name!r}.")
        if not 0 <= self.share <= 1:
            raise InvalidInput(f"The share of the flag {self.name!r} must be within 0 and 1, but got {self.share!r}.")

    def on_for(self, unit: str, attributes: Mapping[str, str] | None = None) -> bool:
        """Say whether the flag is on for a unit, such as a project or a conversation; the same unit always gets the same."""
        if not self.enabled:
            return False
        for rule in self.rules:
            if attributes and attributes.get(rule.attribute) in rule.values:
                return rule.on
        return bucket(self.name, unit) < self.share


def bucket(flag: str, unit: str) -> float:
    """Return where a unit stands for a flag, evenly in [0, 1); other flags place it independently."""
    name = f"{flag}\x00{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / BUCKETS


_RULES: Final = pydantic.TypeAdapter(tuple[FlagRule, ...])


class Flags:
    """The flags of the database, as they were at the last `refresh`: asking costs no query.

    Before the first refresh, and for names that it did not find, a flag is off. Where a refresh fails, what was known last stays.
    Run `refresh` every few seconds in a background job, which reports its failures.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Mapping[str, Flag] = {}
        self._writing = threading.Lock()

    def refresh(self) -> None:
        """Read the flags anew.

        Raises:
            StorageError: The database failed.
            InvalidInput: A stored flag breaks a rule; nothing was taken over.
        """
        with self._database.read() as session:
            rows = list(session.scalars(select(RolloutFlag).order_by(RolloutFlag.name)))
            self._known = {row.name: _flag(row) for row in rows}

    def is_on(self, name: str, unit: str, attributes: Mapping[str, str] | None = None) -> bool:
        """Say whether a flag is on for a unit; a flag that is not known is off."""
        flag = self._known.get(name)
        return flag is not None and flag.on_for(unit, attributes)

    def all(self) -> tuple[Flag, ...]:
        """Return the flags known here, by name."""
        return tuple(self._known.values())

    def put(self, flag: Flag, *, by: str) -> None:
        """Store a flag, new or changed, and know it here at once.

        Raises:
            StorageError: The database failed; nothing was changed.
        """
        with self._writing, self._database.write() as session:
            row = session.get(RolloutFlag, flag.name) or RolloutFlag(name=flag.name)
            row.description, row.enabled, row.share = flag.description, flag.enabled, flag.share
            row.rules = [asdict(rule) | {"values": list(rule.values)} for rule in flag.rules]
            row.updated_at, row.updated_by = now(), by[:200]
            session.add(row)
        self.refresh()

    def remove(self, name: str) -> None:
        """Remove a flag; it is off from now on.

        Raises:
            InvalidInput: There is none of that name.
            StorageError: The database failed; nothing was changed.
        """
        with self._writing, self._database.write() as session:
            row = session.get(RolloutFlag, name)
            if row is None:
                raise InvalidInput(f"No flag is called {name!r}.")
            session.delete(row)
        self.refresh()


def _flag(row: RolloutFlag) -> Flag:
    try:
        rules = _RULES.validate_python(row.rules)
    except pydantic.ValidationError as error:
        raise InvalidInput(
            f"The stored rules of the flag {row.name!r} are invalid: {error.errors()[0]['msg']}."
        ) from None
    return Flag(row.name, row.description, row.enabled, row.share, rules)
