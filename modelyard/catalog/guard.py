"""What a change of the catalogue may not do to secrets: the files are their owner's, a change may come from anybody with an admin key.

A key is sent to the address beside it. So a change names both together, and only keys that are meant for models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast
from urllib.parse import urlsplit

from modelyard.catalog.building import Entries, Fields
from modelyard.catalog.changes import Patch, Registration, Request
from modelyard.errors import InvalidSetting
from modelyard.upstream.addresses import is_refused

Address = tuple[str, object, object]  # a deployment's key, its base_url, its api_key_env


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks changes before they are stored.

    Attributes:
        key_variables: Names of variables, `*` for any characters, that a change may name beside those in the files.
    """

    key_variables: tuple[str, ...] = ()

    def check(self, ask: Request, files: Entries, before: Entries, after: Entries) -> None:
        """Look at every address that a change makes or changes.

        Raises:
            InvalidSetting: It is never called, its key is not meant for models, or its key was meant for another address.
        """
        for name, entry in after.models.items():
            known = {*_addresses(before, name), *_addresses(files, name)}
            for address in _addresses_of(entry.fields):
                if address not in known:
                    self._check(ask, files, name, address)

    def _check(self, ask: Request, files: Entries, model: str, address: Address) -> None:
        key, base_url, variable = address
        deployment = f"{model}/{key}" if key else model
        if is_refused(_host(base_url)):
            raise InvalidSetting(
                f"the base_url of the deployment {deployment!r} must not be a link-local or metadata address"
            )
        if variable is None:
            return
        if not _names_key(ask, key):
            raise InvalidSetting(
                f"a new base_url for the deployment {deployment!r} must come with its api_key_env, or null for none: "
                "the key is sent there"
            )
        if not self._may_name(str(variable), files):
            named = ", ".join(sorted(_variables(files))) or "none"
            raise InvalidSetting(  # without the name, which may be the key itself
                f"the api_key_env of the deployment {deployment!r} must be a variable that the catalogue's files name ({named}) "
                "or MODELYARD_KEY_VARIABLES allows"
            )

    def _may_name(self, variable: str, files: Entries) -> bool:
        return variable in _variables(files) or any(fnmatchcase(variable, allowed) for allowed in self.key_variables)


def _variables(files: Entries) -> set[str]:
    found = (address[2] for entry in files.models.values() for address in _addresses_of(entry.fields))
    return {str(variable) for variable in found if variable is not None}


def _addresses(entries: Entries, model: str) -> Iterable[Address]:
    return _addresses_of(entries.models[model].fields) if model in entries.models else ()


def _addresses_of(fields: Fields) -> Iterator[Address]:
    for key, deployment in _table(fields.get("deployments")).items():
        row = _table(deployment)
        yield key, row.get("base_url"), row.get("api_key_env")


def _names_key(ask: Request, key: str) -> bool:
    if not isinstance(ask, Registration | Patch):
        return False
    if ask.kind == "deployment" or (not key and "api_key_env" in ask.fields):
        return "api_key_env" in ask.fields
    return "api_key_env" in _table(_table(ask.fields.get("deployments")).get(key))


def _host(base_url: object) -> str:
    try:
        return urlsplit(str(base_url)).hostname or ""
    except ValueError:  # the layout refuses it later
        return ""


def _table(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
