"""Reads the catalogue from TOML, and says what is wrong with it in one sentence."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from modelyard.catalog.building import Entries, Entry, build, settled
from modelyard.catalog.records import Catalog, Price
from modelyard.catalog.rows import File, PriceRow, validated
from modelyard.errors import InvalidSetting

SHIPPED = "shipped.toml"


def load_catalog(path: Path | None = None) -> Catalog:
    """Read the shipped catalogue, and a user's file over it.

    Entries of the user's file replace shipped entries of the same name.

    Raises:
        InvalidSetting: The file is not there, is not TOML, breaks the layout, or a composite has no model left that can serve it.
    """
    return build(read_entries(path))


def read_entries(path: Path | None = None) -> Entries:
    """Read the entries of the shipped catalogue and of a user's file over it, each checked by itself.

    Raises:
        InvalidSetting: The file is not there, is not TOML, or breaks the layout.
    """
    found = _parse(files("modelyard.catalog").joinpath(SHIPPED).read_text("utf-8"), SHIPPED)
    if path is None:
        return found
    own = _parse(_read(path), str(path))
    return Entries({**found.models, **own.models}, {**found.composites, **own.composites})


def load_prices(path: Path) -> dict[str, Price]:
    """Read a price file: a table per model, `input`, `output` and `cached_input` in USD per million tokens, `request` in USD per call.

    Raises:
        InvalidSetting: The file is not there, is not TOML, or a price is not a number ≥ 0.
    """
    table = _toml(_read(path), str(path))
    return {name: validated(PriceRow, row, f"{path}, table [{name!r}]").price() for name, row in table.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"Cannot read {path}: {error}.") from None


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{where} is not TOML: {error}.") from None


def _parse(text: str, where: str) -> Entries:
    file = validated(File, _toml(text, where), where)
    return Entries(
        {name: Entry(settled(row.model_dump(exclude_unset=True)), where) for name, row in file.models.items()},
        {name: Entry(row.model_dump(exclude_unset=True), where) for name, row in file.composites.items()},
    )
