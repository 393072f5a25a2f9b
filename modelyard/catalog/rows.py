"""The layout of the catalogue's entries, from TOML and API alike; what is wrong with one is said in one sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import pydantic

from modelyard.catalog.records import IMAGE_TOKENS, Kind, LocalMethod, Price, Sticky
from modelyard.errors import InvalidSetting
from modelyard.types import Capability

LONGEST_SHOWN: Final = 200  # characters of a wrong value
HIDDEN: Final = frozenset({"api_key_env", "base_url"})  # somebody may have put the key itself there
ADDRESS_FIELDS: Final = (
    "base_url",
    "api_key_env",
    "max_concurrent",
    "timeout_s",
    "batch_price_factor",
)  # a model's that gives its address itself
_NOT_IN_A_LINE: Final = frozenset(
    {"Cc", "Cs", "Zl", "Zp"}
)  # controls, lone surrogates, separators of lines and paragraphs
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NO_ADDRESS: Final = "a base_url must be an address that starts with http:// or https://"
_OWN_SETTINGS: Final = "MODELYARD_"

_Row = TypeVar("_Row", bound=pydantic.BaseModel)


def _printable(name: str) -> str:
    if not (name.isascii() and name.isprintable() and name == name.strip()):
        raise ValueError("a name must be printable ASCII without space around it")
    return name


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # brackets that do not match, a port that is no number
        raise ValueError(_NO_ADDRESS) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise ValueError(_NO_ADDRESS)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a base_url must hold no user, password, query or fragment; keys belong to api_key_env")
    return url


def _variable(name: str) -> str:
    if not _VARIABLE.match(name):
        raise ValueError("api_key_env must be the name of an environment variable, never the key itself")
    if name.upper().startswith(_OWN_SETTINGS):
        raise ValueError("api_key_env must not name one of Modelyard's own settings")
    return name


def _one_line(text: str) -> str:
    if any(unicodedata.category(letter) in _NOT_IN_A_LINE for letter in text):
        raise ValueError("it must be one line without control characters")
    return text


Name = Annotated[str, pydantic.Field(min_length=1, max_length=120), pydantic.AfterValidator(_printable)]
Line = Annotated[str, pydantic.Field(max_length=1000), pydantic.AfterValidator(_one_line)]
Address = Annotated[str, pydantic.Field(max_length=1000), pydantic.AfterValidator(_address)]
Variable = Annotated[str, pydantic.Field(max_length=200), pydantic.AfterValidator(_variable)]
DeploymentKey = Annotated[str, pydantic.Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,59})?$")]
Money = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(ge=0, le=1, allow_inf_nan=False)]
Tokens = Annotated[int, pydantic.Field(gt=0, le=100_000_000)]
Calls = Annotated[int, pydantic.Field(gt=0, le=100_000)]
Seconds = Annotated[float, pydantic.Field(gt=0, le=86_400, allow_inf_nan=False)]


class _Strict(pydantic.BaseModel):
    """No unknown field, no silent conversion."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class PriceRow(_Strict):
    """A price, as far as it is given."""

    input: Money | None = None
    output: Money | None = None
    request: Money | None = None
    cached_input: Money | None = None

    @property
    def priced(self) -> bool:
        """Whether any part of the price is given."""
        return any(part is not None for part in (self.input, self.output, self.request, self.cached_input))

    def price(self, listed: Price | None = None) -> Price:
        """Return the price, what is not given being the list price's, or 0."""
        listed = listed or Price()
        return Price(
            listed.input if self.input is None else self.input,
            listed.output if self.output is None else self.output,
            listed.request if self.request is None else self.request,
            listed.cached_input if self.cached_input is None else self.cached_input,
        )


class DeploymentRow(_Strict):
    """A deployment of a model."""

    base_url: Address
    api_key_env: Variable | None = None
    upstream_model: Name | None = None
    weight: Annotated[float, pydantic.Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    max_concurrent: Calls = 64
    timeout_s: Seconds | None = None
    enabled: bool = True
    batch_price_factor: Share | None = None


class ModelRow(PriceRow):
    """A base model; one that gives `base_url` itself has one deployment, under the empty key."""

    kind: Kind
    price_from: Line | None = None
    context_window: Tokens | None = None
    output_tokens: Tokens = 250
    max_output_tokens: Tokens | None = None
    image_tokens: Tokens = IMAGE_TOKENS
    capabilities: list[Capability] | None = None
    embeddings: bool = False
    moderations: bool = False
    method: LocalMethod | None = None
    base_url: Address | None = None
    api_key_env: Variable | None = None
    max_concurrent: Calls | None = None
    timeout_s: Seconds | None = None
    batch_price_factor: Share | None = None
    upstream_model: Name | None = None
    enabled: bool = True
    deployments: dict[DeploymentKey, DeploymentRow] = {}

    @pydantic.model_validator(mode="after")
    def _kind_has_its_settings(self) -> ModelRow:
        if self.kind == "local" and self.method is None:
            raise ValueError("a local model needs a method")
        if self.kind == "openai":
            self._check_deployments()
        elif self.base_url or self.deployments or self.embeddings or self.moderations:
            raise ValueError(
                f"a {self.kind} model takes no base_url, deployments, embeddings or moderations: those are an openai model's"
            )
        if self.embeddings and self.moderations:
            raise ValueError("a model has embeddings or moderations, not both")
        return self

    def _check_deployments(self) -> None:
        given = [name for name in ADDRESS_FIELDS if getattr(self, name) is not None]
        if self.deployments and given:
            raise ValueError(f"{given[0]} belongs to each deployment of a model that has a table of deployments")
        if not self.deployments and self.base_url is None:
            raise ValueError(
                "an openai model needs a base_url that starts with http:// or https://, or deployments that have one"
            )


class CompositeRow(_Strict):
    """A composite model."""

    description: Line
    candidates: Annotated[list[Name], pydantic.Field(min_length=1, max_length=100)]
    fallback: Name
    passages: Annotated[int, pydantic.Field(ge=0, le=50)] = 4
    cost_weight: Money | None = None
    fallbacks: Annotated[list[Name], pydantic.Field(max_length=100)] = []
    equal_margin: Share = 0.0
    sticky: Sticky = "off"
    switch_weight: Share = 1.0
    response_cache_s: Annotated[float, pydantic.Field(ge=0, le=30 * 86_400, allow_inf_nan=False)] = 0.0
    response_cache_shared: bool = False
    enabled: bool = True


class File(_Strict):
    """A whole catalogue file."""

    models: dict[Name, ModelRow] = {}
    composites: dict[Name, CompositeRow] = {}


def validated(row_type: type[_Row], fields: Any, where: str) -> _Row:
    """Read an entry.

    Raises:
        InvalidSetting: It breaks the layout; the sentence names the place, the rule and the value, unless that could be a secret.
    """
    try:
        return row_type.model_validate(fields)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(_part(part) for part in first["loc"] if part not in ("", "[key]")) or "table"
        rule = first["msg"].removeprefix("Value error, ")
        raise InvalidSetting(f"{where}: {place} is invalid ({rule}){_got(first)}.") from None


def _part(part: int | str) -> str:
    text = str(part)[:LONGEST_SHOWN]
    return text if text.isprintable() else ascii(text)


def _got(error: Mapping[str, Any]) -> str:
    value, names = error["input"], {str(part) for part in error["loc"]}
    if names & HIDDEN or isinstance(value, dict | list | pydantic.BaseModel):
        return ""
    shown = repr(value)
    return f", got {shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + '…'}"
