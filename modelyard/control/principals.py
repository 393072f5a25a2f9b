"""Who is calling, and what that caller may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from modelyard.errors import Forbidden, InvalidInput

Scope = Literal["chat", "embeddings", "moderations", "feedback", "admin", "analytics"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a key belongs to.

    Attributes:
        key_id: The key's id, which stays the same when its secret is rotated; None for the anonymous caller.
        project: The project's id; None for the anonymous caller.
        name: The key's name, for people.
        scopes: What it may do.
        model_types: The composites and base models that it may ask for; None is all.
        project_name: The project's name, for people.
    """

    key_id: str | None
    project: str | None
    name: str
    scopes: frozenset[Scope]
    model_types: frozenset[str] | None = None
    project_name: str | None = None

    def may_use(self, model_type: str) -> bool:
        """Whether it may ask for a composite or base model."""
        return self.model_types is None or model_type in self.model_types

    def require(self, scope: Scope, model_type: str | None = None) -> None:
        """Check that it may do this, with this composite or base model.

        Raises:
            Forbidden: It may not.
        """
        if scope not in self.scopes:
            raise Forbidden(f"This needs an API key with the scope {scope!r}.")
        if model_type is not None and not self.may_use(model_type):
            raise Forbidden(f"This API key does not allow the model {model_type[:LONGEST_NAME]!r}.")


ANONYMOUS: Final = Principal(None, None, "anonymous", frozenset(SCOPES))


def checked_name(what: str, name: str) -> str:
    """Return a name that can stand in a log line, a header and a table.

    Raises:
        InvalidInput: It is empty, too long, or has characters that do not print.
    """
    if not 0 < len(name.strip()) <= len(name) <= LONGEST_NAME or not name.isprintable():
        shown = name[:LONGEST_NAME]
        raise InvalidInput(f"{what} must be 1 to {LONGEST_NAME} printable characters, but got {shown!r}.")
    return name


def checked_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Return scopes, at least one.

    Raises:
        InvalidInput: There is none, or one is unknown.
    """
    found = frozenset(scopes)
    if not found or not found <= set(SCOPES):
        raise InvalidInput(f"A key's scopes must be some of {', '.join(SCOPES)}, but got {sorted(found)}.")
    return cast("frozenset[Scope]", found)


def known_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Return those scopes that this version knows: what a newer one granted is not guessed."""
    return frozenset(scope for scope in SCOPES if scope in set(scopes))
