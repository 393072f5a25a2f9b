"""Reads the catalogue from TOML, and says what is wrong with it in one sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from modelyard.catalog.records import BaseModel, Catalog, Composite, Kind, LocalMethod, Price
from modelyard.errors import InvalidSetting

SHIPPED = "shipped.toml"

_Model = TypeVar("_Model", bound=pydantic.BaseModel)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class _PriceRow(_Strict):
    input: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False, strict=False)
    output: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False, strict=False)
    request: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False, strict=False)

    def price(self) -> Price:
        return Price(self.input, self.output, self.request)


class _ModelRow(_PriceRow):
    kind: Kind
    context_window: int = pydantic.Field(default=8192, gt=0)
    output_tokens: int = pydantic.Field(default=250, gt=0)
    method: LocalMethod | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    upstream_model: str | None = None
    enabled: bool = True

    @pydantic.model_validator(mode="after")
    def _kind_has_its_setting(self) -> _ModelRow:
        if self.kind == "local" and self.method is None:
            raise ValueError("a local model needs a method")
        if self.kind == "openai" and not (self.base_url or "").startswith(("http://", "https://")):
            raise ValueError("an openai model needs a base_url that starts with http:// or https://")
        return self


class _CompositeRow(_Strict):
    description: str
    candidates: list[str] = pydantic.Field(min_length=1)
    fallback: str
    passages: int = pydantic.Field(default=4, ge=0, le=50)
    cost_weight: float | None = pydantic.Field(default=None, ge=0, strict=False)


class _File(_Strict):
    models: dict[str, _ModelRow] = {}
    composites: dict[str, _CompositeRow] = {}


def load_catalog(path: Path | None = None) -> Catalog:
    """Read the shipped catalogue, and a user's file over it.

    Entries of the user's file replace shipped entries of the same name.

    Raises:
        InvalidSetting: The file is not there, is not TOML, breaks the layout, or a composite names a model that no entry serves.
    """
    shipped = _parse(files("modelyard.catalog").joinpath(SHIPPED).read_text("utf-8"), SHIPPED)
    models, composites = dict(shipped.models), dict(shipped.composites)
    if path is not None:
        own = _parse(_read(path), str(path))
        models |= own.models
        composites |= own.composites
    catalog = Catalog(
        {name: _model(name, row) for name, row in models.items()},
        {name: _composite(name, row) for name, row in composites.items()},
    )
    _check_composites(catalog, str(path or SHIPPED))
    return catalog


def load_prices(path: Path) -> dict[str, Price]:
    """Read a price file: a table per model with `input` and `output` in USD per million tokens, or `request` in USD per call.

    Raises:
        InvalidSetting: The file is not there, is not TOML, or a price is not a number ≥ 0.
    """
    table = _toml(_read(path), str(path))
    return {name: _validate(_PriceRow, row, f"{path}, table [{name!r}]").price() for name, row in table.items()}


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


def _parse(text: str, where: str) -> _File:
    return _validate(_File, _toml(text, where), where)


def _validate(model: type[_Model], row: Any, where: str) -> _Model:
    try:
        return model.model_validate(row)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "table"
        raise InvalidSetting(f"{where}: {place} is invalid ({first['msg']}), got {first['input']!r}.") from None


def _model(name: str, row: _ModelRow) -> BaseModel:
    return BaseModel(
        name=name,
        kind=row.kind,
        price=row.price(),
        context_window=row.context_window,
        output_tokens=row.output_tokens,
        method=row.method,
        base_url=row.base_url,
        api_key_env=row.api_key_env,
        upstream_model=row.upstream_model,
        enabled=row.enabled,
    )


def _composite(name: str, row: _CompositeRow) -> Composite:
    return Composite(name, row.description, tuple(row.candidates), row.fallback, row.passages, row.cost_weight)


def _check_composites(catalog: Catalog, where: str) -> None:
    models: Mapping[str, BaseModel] = catalog.models
    for composite in catalog.composites.values():
        for name in (*composite.candidates, composite.fallback):
            if name not in models or not models[name].served:
                raise InvalidSetting(
                    f"{where}: composite {composite.name!r} names the model {name!r}, which no deployment serves."
                )
        if composite.fallback not in composite.candidates:
            raise InvalidSetting(
                f"{where}: composite {composite.name!r} falls back to {composite.fallback!r}, "
                f"which is not one of its candidates {list(composite.candidates)}."
            )
