"""Makes the catalogue of its entries, and checks what only all of them together can break."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.catalog.list_prices import ListPrice, batch_factor_at, list_price, list_price_at
from modelyard.catalog.records import BaseModel, Catalog, Composite, Deployment, Kind
from modelyard.catalog.rows import ADDRESS_FIELDS, CompositeRow, DeploymentRow, ModelRow, validated
from modelyard.errors import InvalidSetting
from modelyard.types import Capability

DEFAULT_WINDOW: Final = 8192  # tokens, where neither the catalogue nor a list price says more
CAPABILITIES: Final[dict[Kind, frozenset[Capability]]] = {"openai": frozenset({"tools", "json"})}

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """The fields of one base model or composite, and the file that they come from, for sentences about them; empty where none.

    A model's deployments stand in `deployments` by key, the one of a model that gives its address itself under the empty key.
    """

    fields: Fields
    origin: str = ""

    def place(self, what: str) -> str:
        """Return how a sentence about this entry begins."""
        return f"{self.origin}: {what}" if self.origin else what


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries by name."""

    models: Mapping[str, Entry] = field(default_factory=dict[str, Entry])
    composites: Mapping[str, Entry] = field(default_factory=dict[str, Entry])


def settled(fields: Fields) -> dict[str, Any]:
    """Return a model's fields with the address that it gives itself moved into a deployment under the empty key."""
    if fields.get("base_url") is None or "deployments" in fields:
        return dict(fields)
    moved = {name: value for name, value in fields.items() if name in ADDRESS_FIELDS}
    rest = {name: value for name, value in fields.items() if name not in ADDRESS_FIELDS}
    return {**rest, "deployments": {"": {name: value for name, value in moved.items() if value is not None}}}


def build(entries: Entries, notices: Iterable[str] = ()) -> Catalog:
    """Make the catalogue, with notices beside its own.

    Raises:
        InvalidSetting: An entry breaks the layout, two deployments share a name, or a composite has no model left that can serve it.
    """
    said = list(notices)
    models = {name: _model(name, entry, said) for name, entry in entries.models.items()}
    _check_deployment_names(models)
    composites = {name: _composite(name, entry, models) for name, entry in entries.composites.items()}
    said += [
        f"The composite {composite.name!r} goes without {', '.join(composite.left_out)}, switched off now."
        for composite in composites.values()
        if composite.left_out
    ]
    return Catalog(models, composites, tuple(said))


def _model(name: str, entry: Entry, notices: list[str]) -> BaseModel:
    where = entry.place(f"models.{name}")
    row = validated(ModelRow, entry.fields, where)
    listed = _listed(name, row, where)
    if row.kind == "openai" and listed is None and not row.priced:
        notices.append(
            f"The model {name!r} has no price, and genai-prices does not know it at its endpoint: its calls count as free."
        )
    if row.embeddings and len(names := {d.upstream_model for d in row.deployments.values() if d.enabled}) > 1:
        at = " and ".join(sorted(given or row.upstream_model or name for given in names))
        notices.append(
            f"The model {name!r} embeds as {at} at its deployments: unless those are one model, vectors of two answers may not compare."
        )
    window = row.context_window or (listed.context_window if listed else None) or DEFAULT_WINDOW
    if row.max_output_tokens is not None and row.max_output_tokens > window:
        raise InvalidSetting(
            f"{where}: max_output_tokens must fit into the context window of {window} tokens, got {row.max_output_tokens}."
        )
    own = row.deployments.get("")
    return BaseModel(
        name=name,
        kind=row.kind,
        price=row.price(listed.price if listed else None),
        context_window=window,
        output_tokens=row.output_tokens,
        method=row.method,
        base_url=own.base_url if own else None,
        api_key_env=own.api_key_env if own else None,
        upstream_model=row.upstream_model,
        enabled=row.enabled,
        deployments=tuple(_deployment(name, key, found) for key, found in row.deployments.items()),
        capabilities=_capabilities(row),
        max_output_tokens=row.max_output_tokens,
        image_tokens=row.image_tokens,
        embeddings=row.embeddings,
        moderations=row.moderations,
        price_from=listed.source if listed else None,
    )


def _deployment(model: str, key: str, row: DeploymentRow) -> Deployment:
    return Deployment(
        name=f"{model}/{key}" if key else model,
        model=model,
        base_url=row.base_url,
        api_key_env=row.api_key_env,
        upstream_model=row.upstream_model,
        weight=row.weight,
        max_concurrent=row.max_concurrent,
        timeout_s=row.timeout_s,
        enabled=row.enabled,
        batch_price_factor=batch_factor_at(row.base_url) if row.batch_price_factor is None else row.batch_price_factor,
    )


def _listed(name: str, row: ModelRow, where: str) -> ListPrice | None:
    if row.price_from is not None:
        try:
            return list_price(row.price_from)
        except InvalidSetting as error:
            raise InvalidSetting(f"{where}: {error}") from None
    if row.kind != "openai" or row.priced:
        return None
    found = (
        list_price_at(deployment.base_url, deployment.upstream_model or row.upstream_model or name)
        for deployment in row.deployments.values()
    )
    return next((price for price in found if price is not None), None)


def _capabilities(row: ModelRow) -> frozenset[Capability]:
    if row.capabilities is not None:
        return frozenset(row.capabilities)
    return frozenset() if row.embeddings or row.moderations else CAPABILITIES.get(row.kind, frozenset())


def _check_deployment_names(models: Mapping[str, BaseModel]) -> None:
    seen: dict[str, str] = {}
    for model in models.values():
        for deployment in model.deployments:
            if deployment.name in seen:
                raise InvalidSetting(
                    f"The models {seen[deployment.name]!r} and {model.name!r} both have a deployment called "
                    f"{deployment.name!r}, but deployments must have names of their own."
                )
            seen[deployment.name] = model.name


def _composite(name: str, entry: Entry, models: Mapping[str, BaseModel]) -> Composite:
    row = validated(CompositeRow, entry.fields, entry.place(f"composites.{name}"))
    who = entry.place(f"composite {name!r}")
    for model in (*row.candidates, row.fallback, *row.fallbacks):
        _check_model(model, models, who)
    if row.fallback not in row.candidates:
        raise InvalidSetting(
            f"{who} falls back to {row.fallback!r}, which is not one of its candidates {row.candidates}."
        )
    candidates = tuple(model for model in dict.fromkeys(row.candidates) if models[model].served)
    if not candidates:
        raise InvalidSetting(
            f"{who} needs a candidate that is switched on, but all are off: {', '.join(row.candidates)}."
        )
    named = dict.fromkeys((*row.candidates, *row.fallbacks))
    return Composite(
        name=name,
        description=row.description,
        candidates=candidates,
        fallback=row.fallback if row.fallback in candidates else candidates[-1],
        passages=row.passages,
        cost_weight=row.cost_weight,
        fallbacks=tuple(
            model for model in dict.fromkeys(row.fallbacks) if models[model].served and model not in candidates
        ),
        equal_margin=row.equal_margin,
        sticky=row.sticky,
        switch_weight=row.switch_weight,
        response_cache_s=row.response_cache_s,
        response_cache_shared=row.response_cache_shared,
        enabled=row.enabled,
        left_out=tuple(model for model in named if not models[model].served),
    )


def _check_model(name: str, models: Mapping[str, BaseModel], who: str) -> None:
    if name not in models or models[name].kind == "recorded":
        raise InvalidSetting(f"{who} names the model {name!r}, which no deployment serves.")
    if not models[name].drafts:
        does = "embeds" if models[name].embeddings else "moderates"
        raise InvalidSetting(f"{who} names the model {name!r}, which {does} texts and answers nothing.")
