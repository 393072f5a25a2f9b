"""What a comparison concluded about a challenger: the record that the promotion gate reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from modelyard.errors import InvalidInput

Outcome = Literal["better", "not worse and cheaper", "worse", "inconclusive"]
PASSING: Final[frozenset[Outcome]] = frozenset({"better", "not worse and cheaper"})
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """Challenger minus what it was held against: the estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))) or self.low > self.high:
            raise InvalidInput(
                f"A difference needs finite numbers with low ≤ high, but got {self.value} [{self.low}, {self.high}]."
            )

    def to_json(self) -> dict[str, Any]:
        """Return `{"value", "ci95": [low, high]}`."""
        return {"value": self.value, "ci95": [self.low, self.high]}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Difference:
        """Read `to_json`'s form; raises KeyError, TypeError or ValueError where it is another."""
        low, high = facts["ci95"]
        return cls(_number(facts["value"]), _number(low), _number(high))


def conclude(score: Difference, cost: Difference, margin: float) -> Outcome:
    """Return the outcome of a comparison; the first rule that holds counts.

    better                 the whole interval of the score difference lies above 0
    not worse and cheaper  it lies above −margin, and the whole interval of the cost difference lies below 0
    worse                  it lies below 0: a real loss that no saving makes good within the margin
    inconclusive           otherwise

    Raises:
        InvalidInput: The margin is not a positive number.
    """
    if not (margin > 0.0 and math.isfinite(margin)):
        raise InvalidInput(f"The margin of a comparison must be a positive number, but got {margin}.")
    if score.low > 0.0:
        return "better"
    if score.low > -margin and cost.high < 0.0:
        return "not worse and cheaper"
    return "worse" if score.high < 0.0 else "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison's conclusion.

    Attributes:
        component: `classifier` or `router`.
        challenger: Name of what was tried.
        challenger_version: Its registered version; None where it is not registered, and then it cannot be promoted.
        against: Name of what it was held against.
        against_version: The champion's version where it was held against the champion, None where against a baseline.
        metric: What the score is, such as `score` or `accuracy`.
        score, cost: Differences in the metric and in USD a prompt, challenger minus `against`.
        margin: Largest loss in score that counts as not worse, set before the data was read.
        n: Prompts compared.
        data: Hash of the table or eval set.
        run_id: The MLflow run that holds the comparison, or None.
        outcome: See `conclude`; it must follow from the figures.
    """

    component: str
    challenger: str
    challenger_version: str | None
    against: str
    against_version: str | None
    metric: str
    score: Difference
    cost: Difference
    margin: float
    n: int
    data: str
    run_id: str | None
    outcome: Outcome
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        for name in ("component", "challenger", "against", "metric", "data"):
            if not getattr(self, name):
                raise InvalidInput(f"A verdict's {name} must not be empty.")
        if self.n < 1:
            raise InvalidInput(f"A verdict needs n ≥ 1 prompts, but got {self.n}.")
        if self.created_at.tzinfo is None:
            raise InvalidInput(f"A verdict's created_at needs a time zone, but got {self.created_at.isoformat()}.")
        concluded = conclude(self.score, self.cost, self.margin)
        if self.outcome != concluded:
            raise InvalidInput(f"A verdict says {self.outcome!r}, but its figures say {concluded!r}.")

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        score, cost = self.score, self.cost
        return (
            f"{self.challenger} is {self.outcome} against {self.against} on {self.n} prompts: {self.metric} "
            f"{score.value:+.4f} [{score.low:+.4f}, {score.high:+.4f}], cost {1000 * cost.value:+.4f} "
            f"[{1000 * cost.low:+.4f}, {1000 * cost.high:+.4f}] USD per 1000 prompts, margin {self.margin:g}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready facts."""
        return {
            "schema": FORMAT,
            "component": self.component,
            "challenger": {"name": self.challenger, "version": self.challenger_version},
            "against": {"name": self.against, "version": self.against_version},
            "metric": self.metric,
            "difference": self.score.to_json(),
            "cost_difference": self.cost.to_json(),
            "margin": self.margin,
            "outcome": self.outcome,
            "n": self.n,
            "data": self.data,
            "run_id": self.run_id,
            "created_at": self.created_at.isoformat(),
        }

    @classmethod
    def from_json(cls, facts: Any, where: str = "A verdict") -> Verdict:
        """Read `to_json`'s form.

        Raises:
            InvalidInput: A field is missing, of the wrong kind, or contradicts another.
        """
        try:
            return _read(facts)
        except KeyError as error:
            raise InvalidInput(f"{where} lacks the field {error.args[0]!r}.") from None
        except InvalidInput as error:
            raise InvalidInput(f"{where} cannot be used: {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"{where} is not a verdict: {error}.") from None


def read_verdict(path: Path) -> Verdict:
    """Read a verdict from a JSON file.

    Raises:
        InvalidInput: The file is not there or holds no valid verdict.
    """
    try:
        facts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"No verdict can be read from {path}: {error}.") from None
    return Verdict.from_json(facts, str(path))


def _read(facts: Any) -> Verdict:
    if facts["schema"] != FORMAT:
        raise InvalidInput(f"schema {facts['schema']!r} is not {FORMAT}.")
    outcome = _text(facts["outcome"])
    if outcome not in get_args(Outcome):
        raise InvalidInput(f"the outcome {outcome!r} is none of {', '.join(get_args(Outcome))}.")
    n = facts["n"]
    if not isinstance(n, int):
        raise InvalidInput(f"n must be a whole number, but is {n!r}.")
    return Verdict(
        component=_text(facts["component"]),
        challenger=_text(facts["challenger"]["name"]),
        challenger_version=_text_or_none(facts["challenger"]["version"]),
        against=_text(facts["against"]["name"]),
        against_version=_text_or_none(facts["against"]["version"]),
        metric=_text(facts["metric"]),
        score=Difference.from_json(facts["difference"]),
        cost=Difference.from_json(facts["cost_difference"]),
        margin=_number(facts["margin"]),
        n=n,
        data=_text(facts["data"]),
        run_id=_text_or_none(facts["run_id"]),
        outcome=cast("Outcome", outcome),
        created_at=datetime.fromisoformat(_text(facts["created_at"])),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"a number is needed, but got {value!r}.")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"text is needed, but got {value!r}.")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)
