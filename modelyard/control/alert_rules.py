"""What an operator wants to be told of: lines that cost, errors or latency must not cross, and savings worth a message.

A file of rules is TOML (or JSON of the same shape):

    [rules.spending]
    metric = "cost_usd"      # cost_usd | error_rate | p95_latency_ms | fallback_rate | requests
    above = 50.0
    window_s = 86400
    per = "project"          # all | model | key | project | domain
    severity = "critical"    # info | warning | critical

    [savings]
    margin = 0.02            # predicted scores at most this far below the chosen model's count as equal
    least_usd_a_day = 1.0
    least_share = 0.1
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from modelyard.errors import InvalidSetting

Metric = Literal["cost_usd", "error_rate", "p95_latency_ms", "fallback_rate", "requests"]
Per = Literal["all", "model", "key", "project", "domain"]
Severity = Literal["info", "warning", "critical"]
SHARES: Final = frozenset({"error_rate", "fallback_rate"})


RuleName = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=40)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class AlertRule(_Strict):
    """A line that a metric must not cross.

    Attributes:
        metric: `cost_usd` and `requests` are sums over the window, the rates are shares 0..1, latency is in milliseconds.
        above: The line; an alert is raised while the metric is above it.
        window_s: The window ends now and is this long.
        per: Whether the metric is taken over everything or for each model, key, project or domain.
        at_least: Rates and latencies of fewer requests than this say nothing.
        severity: For whoever sorts the alerts.
        enabled: Off keeps the rule and raises nothing.
    """

    metric: Metric
    above: float = pydantic.Field(ge=0, allow_inf_nan=False)
    window_s: float = pydantic.Field(default=3600.0, gt=0, le=366 * 86_400)
    per: Per = "all"
    at_least: int = pydantic.Field(default=20, ge=1)
    severity: Severity = "warning"
    enabled: bool = True

    @pydantic.model_validator(mode="after")
    def _line_can_be_crossed(self) -> Self:
        if self.metric in SHARES and self.above >= 1:
            raise ValueError(f"{self.metric} is a share and never above {self.above:g}")
        return self


class SavingRule(_Strict):
    """When traffic on a dearer model, for which a cheaper one is predicted equal, is worth a message.

    Attributes:
        margin: Predicted scores at most this far below the chosen model's count as equal.
        least_usd_a_day: Savings below this are not worth a message.
        least_share: Nor is traffic of which less than this share could move.
        window_s: The window ends now and is this long.
        severity: For whoever sorts the alerts.
        enabled: Off looks for no savings.
    """

    margin: float = pydantic.Field(default=0.02, ge=0, le=1)
    least_usd_a_day: float = pydantic.Field(default=1.0, ge=0, allow_inf_nan=False)
    least_share: float = pydantic.Field(default=0.1, ge=0, le=1)
    window_s: float = pydantic.Field(default=7 * 86_400.0, gt=0, le=366 * 86_400)
    severity: Severity = "info"
    enabled: bool = True


def _shipped() -> dict[str, AlertRule]:
    return {
        "errors": AlertRule(metric="error_rate", above=0.05, window_s=900, per="model"),
        "latency": AlertRule(metric="p95_latency_ms", above=30_000, window_s=900, per="model"),
        "fallbacks": AlertRule(metric="fallback_rate", above=0.2, window_s=900),
    }


class AlertRules(_Strict):
    """Every rule by its name; without a file those that suit everybody: no line for spending, which only an operator can know."""

    rules: dict[RuleName, AlertRule] = pydantic.Field(default_factory=_shipped)
    savings: SavingRule = SavingRule()

    @classmethod
    def read(cls, path: Path) -> AlertRules:
        """Read a file of rules.

        Raises:
            InvalidSetting: It cannot be read, or a rule in it is not valid.
        """
        try:
            text = path.read_text("utf-8")
            found: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"Cannot read the alert rules in {path}: {error}.") from None
        return cls.of(found, str(path))

    @classmethod
    def of(cls, found: Any, where: str) -> AlertRules:
        """Take rules from plain data.

        Raises:
            InvalidSetting: A rule is not valid.
        """
        try:
            return cls.model_validate(found)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "file"
            raise InvalidSetting(f"{where}: {place} is invalid ({first['msg']}), got {first['input']!r}.") from None
