"""The report that `python -m pipelines demo` leaves, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from modelyard.errors import InvalidInput
from modelyard.registry.verdict import Verdict

DEMO_REPORT = Path("reports") / "demo.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Estimate(_Record):
    """A value with its 95 % interval, or None with the reason why it is undefined."""

    value: float | None
    ci95: tuple[float, float] | None = None
    reason: str | None = None


def _as_verdict(facts: Any) -> Verdict:
    return Verdict.from_json(facts, "the verdict")


def _as_estimate(value: Any) -> Any:
    """A bare number is an estimate without an interval."""
    return {"value": value} if isinstance(value, int | float) else value


AnyEstimate = Annotated[Estimate, BeforeValidator(_as_estimate)]


class Policy(_Record):
    """A routing policy in the comparison: mean score per prompt (0..1) and cost in USD per 1,000 prompts."""

    name: str
    role: Literal["champion", "challenger", "baseline"]
    score: AnyEstimate
    cost_usd_per_1k: AnyEstimate


class Router(_Record):
    """The policies side by side on `n` test prompts, and what the comparison concluded about the newest router."""

    policies: tuple[Policy, ...]
    n: int
    verdict: Annotated[Verdict, BeforeValidator(_as_verdict)]


class LabelScores(_Record):
    """How well one label of the prompts is read; all values in 0..1."""

    macro_f1: AnyEstimate
    accuracy: AnyEstimate
    ece: AnyEstimate


class BaselineScores(_Record):
    """How well a baseline reads one label."""

    macro_f1: AnyEstimate


class Classifier(_Record):
    """The task classifier's scores out of fold; `baselines` go by label (domain, complexity), then by name."""

    domain: LabelScores
    complexity: LabelScores
    baselines: dict[str, dict[str, BaselineScores]] = Field(default_factory=dict)


class Retrieval(_Record):
    """Share of the `n` questions whose document is among the first 1, 5 or 10."""

    hit_at_1: AnyEstimate = Field(alias="hit@1")
    hit_at_5: AnyEstimate = Field(alias="hit@5")
    hit_at_10: AnyEstimate = Field(alias="hit@10")
    n: int

    @property
    def hit_rates(self) -> dict[int, Estimate]:
        """The hit rate by number of documents looked at."""
        return {1: self.hit_at_1, 5: self.hit_at_5, 10: self.hit_at_10}


class ModelCost(_Record):
    """What one model cost in the run."""

    model: str
    requests: int
    cost_usd: float


class Cost(_Record):
    """The run's cost by model."""

    by_model: tuple[ModelCost, ...]


class DemoReport(_Record):
    """The whole report."""

    schema_version: Literal[1] = Field(alias="schema")
    command: str
    created_at: AwareDatetime
    router: Router
    classifier: Classifier
    retrieval: Retrieval
    cost: Cost


def read_report(home: Path) -> DemoReport | None:
    """Read the demo's report from the folder `home`; None where no demo has run.

    Raises:
        InvalidInput: The file is not a report of this version; the sentence names the file and the field.
    """
    path = home / DEMO_REPORT
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return DemoReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        raise InvalidInput(f"The report {path} cannot be read: {where}: {first['msg']}.") from None
