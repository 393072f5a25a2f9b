"""A/B tests on recorded outcomes: every arm answers the same prompts, and a verdict follows from a plan that was written before.

The plan is a frozen record; its hash is logged before the outcomes are read, and `experiments.ab_report` refuses to log a comparison under
another plan than that. Verdicts are about one challenger and one baseline each; whoever tries many challengers should expect one in forty
to look better by luck, and confirm the winner on prompts that were not used to find it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.statistics import RESAMPLES, Estimate, GroupDifference, by_group, paired_difference, t_difference
from modelyard.errors import InvalidInput
from modelyard.registry.verdict import Difference, Outcome, Verdict, conclude

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared and how, fixed before the data is read.

    Attributes:
        component: What the arms are: `classifier` or `router`.
        baseline: Name of the arm that the others are held against.
        challengers: Names of the other arms.
        margin: Largest loss in the metric that counts as not worse; positive.
        data: Hash of the file or eval set.
        rows: Which prompts of it, in words or as a hash.
        metric: What the scores are.
        seed: Of the resampling.
        resamples: Bootstrap resamples.
    """

    component: str
    baseline: str
    challengers: tuple[str, ...]
    margin: float
    data: str
    rows: str = "all"
    metric: str = "score"
    seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        conclude(Difference(0.0, 0.0, 0.0), Difference(0.0, 0.0, 0.0), self.margin)  # holds the margin's rule
        names = (self.baseline, *self.challengers)
        if not self.challengers or len(set(names)) != len(names):
            raise InvalidInput(f"An A/B test needs two or more arms of different names, but got {', '.join(names)}.")

    @property
    def sha256(self) -> str:
        """Hash of every field: two plans with the same hash are the same plan."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return every field and the hash, JSON-ready."""
        return {**asdict(self), "challengers": list(self.challengers), "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Arm:
    """One policy's or classifier's result on n prompts.

    Attributes:
        name: Its name in the plan.
        scores: Shape (n,), in 0..1.
        costs: Shape (n,), in USD.
        version: Its registered version, or None.
    """

    name: str
    scores: FloatArray
    costs: FloatArray
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One challenger against the baseline.

    Attributes:
        score, cost: Mean differences, challenger minus baseline.
        score_t: The score difference with its t interval: a check of the bootstrap.
        outcome: See `modelyard.registry.verdict.conclude`.
        domains: Score differences a domain, for exploration only.
    """

    name: str
    version: str | None
    score: Difference
    cost: Difference
    score_t: Estimate
    outcome: Outcome
    domains: Mapping[str, GroupDifference]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What an A/B test found, under which plan, on n prompts; `means` holds each arm's mean score and mean cost."""

    plan: Plan
    n: int
    baseline_version: str | None
    means: Mapping[str, tuple[float, float]]
    results: tuple[Result, ...]

    def verdict(self, challenger: str, run_id: str | None = None) -> Verdict:
        """Return the verdict about one challenger.

        Raises:
            InvalidInput: There is no challenger of that name.
        """
        found = next((result for result in self.results if result.name == challenger), None)
        if found is None:
            raise InvalidInput(
                f"No challenger {challenger!r} was compared; there are {', '.join(self.plan.challengers)}."
            )
        return Verdict(
            component=self.plan.component,
            challenger=found.name,
            challenger_version=found.version,
            against=self.plan.baseline,
            against_version=self.baseline_version,
            metric=self.plan.metric,
            score=found.score,
            cost=found.cost,
            margin=self.plan.margin,
            n=self.n,
            data=self.plan.data,
            run_id=run_id,
            outcome=found.outcome,
        )

    def to_json(self, command: str, run_id: str | None = None) -> dict[str, Any]:
        """Return the report: plan, means and, a challenger, differences, outcome, domains and the verdict."""
        return {
            "schema": 1,
            "command": command,
            "seed": self.plan.seed,
            "n": self.n,
            "plan": self.plan.to_json(),
            "run_id": run_id,
            "results": {
                "arms": {name: {"score": score, "cost_usd": cost} for name, (score, cost) in self.means.items()},
                "challengers": {result.name: _result_json(result) for result in self.results},
            },
            "verdicts": {result.name: self.verdict(result.name, run_id).to_json() for result in self.results},
        }


def compare(arms: Sequence[Arm], *, plan: Plan, domains: Sequence[str]) -> Comparison:
    """Hold every challenger against the baseline, prompt by prompt.

    Args:
        arms: The plan's arms in any order, entry i of each about prompt i.
        plan: What was fixed before.
        domains: Each prompt's domain, n entries.

    Raises:
        InvalidInput: The arms are not the plan's, their lengths differ, a value is not finite, or there are fewer than two prompts.
    """
    found = {arm.name: arm for arm in arms}
    if len(found) != len(arms) or set(found) != {plan.baseline, *plan.challengers}:
        raise InvalidInput(
            f"The plan compares {', '.join((plan.baseline, *plan.challengers))}, "
            f"but the arms are {', '.join(arm.name for arm in arms)}."
        )
    baseline = found[plan.baseline]
    if len(baseline.scores) < 2:
        raise InvalidInput(f"An A/B test needs at least two prompts, but there are {len(baseline.scores)}.")
    return Comparison(
        plan,
        len(baseline.scores),
        baseline.version,
        {
            name: (float(found[name].scores.mean()), float(found[name].costs.mean()))
            for name in (plan.baseline, *plan.challengers)
        },
        tuple(_against(found[name], baseline, plan, domains) for name in plan.challengers),
    )


def compare_classifiers(
    correct: Mapping[str, npt.ArrayLike],
    *,
    plan: Plan,
    domains: Sequence[str],
    versions: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare classifiers by whether they were right; classifying costs nothing, so that only `better` lets one pass.

    Args:
        correct: 1 or 0 a prompt, shape (n,), a classifier.
        plan: What was fixed before.
        domains: Each prompt's true domain.
        versions: Registered versions of those that have one.

    Raises:
        InvalidInput: See `compare`.
    """
    arms = [
        Arm(name, np.asarray(right, dtype=np.float64), np.zeros(np.shape(right)), (versions or {}).get(name))
        for name, right in correct.items()
    ]
    return compare(arms, plan=plan, domains=domains)


def _against(challenger: Arm, baseline: Arm, plan: Plan, domains: Sequence[str]) -> Result:
    score = _difference(challenger.scores, baseline.scores, plan)
    cost = _difference(challenger.costs, baseline.costs, plan)
    return Result(
        challenger.name,
        challenger.version,
        score,
        cost,
        t_difference(challenger.scores, baseline.scores),
        conclude(score, cost, plan.margin),
        by_group(challenger.scores, baseline.scores, domains, seed=plan.seed, resamples=plan.resamples),
    )


def _difference(challenger: FloatArray, baseline: FloatArray, plan: Plan) -> Difference:
    found = paired_difference(challenger, baseline, seed=plan.seed, resamples=plan.resamples)
    if found.value is None or found.low is None or found.high is None:
        raise InvalidInput(f"The arms cannot be compared: {found.reason}.")
    return Difference(found.value, found.low, found.high)


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "version": result.version,
        "outcome": result.outcome,
        "score_difference": result.score.to_json(),
        "score_difference_t": result.score_t.to_json(),
        "cost_difference_usd": result.cost.to_json(),
        "domains": {
            name: {
                "n": group.n,
                "score_difference": group.difference.to_json(),
                "p": group.p_value,
                "p_holm": group.p_holm,
            }
            for name, group in result.domains.items()
        },
    }
