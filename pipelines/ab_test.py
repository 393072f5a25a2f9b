"""`ab-test`: compare policies on the same prompts, with intervals and a verdict against a margin that is set before."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.ab_report import log_comparison, log_plan
from experiments.ab_test import Arm, Comparison, Plan, compare
from experiments.offline import replay
from experiments.policies import NamedPolicy, policy_named, serving_classifier
from experiments.report import show, write_json
from experiments.splits import PARTS, rows_in, rows_named
from experiments.tracking import start
from modelyard.catalog import BaseModel, Catalog, load_catalog, realised_costs
from modelyard.errors import InvalidInput, InvalidTable
from modelyard.outcomes import OutcomeMatrix, read_outcomes
from modelyard.settings import Settings, current
from pipelines.evaluate_router import model_names, prices_for

EXPERIMENT = "ab-test"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--outcomes", type=Path, required=True, help="outcome table")
    parser.add_argument("--models", required=True, help="base models that the policies choose from, by commas")
    parser.add_argument(
        "--policies",
        required=True,
        help="static:MODEL, cheapest, rules, learned:FOLDER, challenger, champion; by commas",
    )
    parser.add_argument("--baseline", required=True, help="the policy that the others are held against")
    parser.add_argument("--margin", type=float, required=True, help="largest loss in score that counts as not worse")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--rows", type=Path, help="file with the prompt ids to compare on, one a line")
    rows.add_argument("--split", choices=PARTS, default="all", help="compare on this part of the table (default: all)")
    parser.add_argument("--prices", type=Path, help="TOML file with a price table per model (default: the catalogue's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the report with the verdicts here, too")


def run(args: argparse.Namespace) -> int:
    """Write the plan, compare, log, and report."""
    settings = current()
    models = model_names(args.models)
    names = [name.strip() for name in args.policies.split(",") if name.strip()]
    if args.baseline not in names:
        raise InvalidInput(f"The baseline {args.baseline!r} must be one of the policies {', '.join(names)}.")
    plan = Plan(
        component="router",
        baseline=args.baseline,
        challengers=tuple(name for name in names if name != args.baseline),
        margin=args.margin,
        data=file_hash(args.outcomes),
        rows=f"ids {file_hash(args.rows)}" if args.rows else args.split,
        seed=args.seed,
    )
    policies = [policy_named(name, settings) for name in names]
    tracker = start(settings, EXPERIMENT)
    with tracker.run(
        f"{' vs '.join(plan.challengers)} vs {plan.baseline}"[:200], params={"models": args.models}
    ) as opened:
        log_plan(opened, plan)
        data = load(args, models, load_catalog(settings.catalog))
        opened.log_dataset(args.outcomes.stem, plan.data, str(args.outcomes), rows=len(data.matrix))
        comparison = compare_policies(policies, data, plan, settings)
        report = log_comparison(opened, comparison, "ab-test")
    write_json(args.json, report)
    print(table(comparison, report))
    return 0


@dataclass(frozen=True, slots=True)
class Data:
    """What policies are compared on: complete outcomes, the candidates, and costs of shape (n, m)."""

    matrix: OutcomeMatrix
    models: tuple[BaseModel, ...]
    costs: Any


def load(args: argparse.Namespace, models: tuple[str, ...], catalog: Catalog) -> Data:
    """Read the outcomes of the prompts to compare on.

    Raises:
        InvalidTable: The table breaks a rule, or no prompt was answered by every model.
    """
    matrix = OutcomeMatrix.of(read_outcomes(args.outcomes), models, str(args.outcomes)).complete()
    prices = prices_for(models, args.prices, catalog)
    costs = realised_costs(matrix, prices, catalog.models)
    rows = rows_named(matrix.prompt_ids, args.rows) if args.rows else rows_in(matrix.prompt_ids, args.split)
    if not len(rows):
        raise InvalidTable(
            f"{args.outcomes} has no prompt in {args.rows or args.split} that all of {', '.join(models)} answered."
        )
    candidates = tuple(
        BaseModel(name, "recorded", prices[name], output_tokens=catalog.models[name].output_tokens)
        if name in catalog.models
        else BaseModel(name, "recorded", prices[name])
        for name in models
    )
    return Data(matrix.take(rows), candidates, costs[rows])


def compare_policies(policies: Sequence[NamedPolicy], data: Data, plan: Plan, settings: Settings) -> Comparison:
    """Route every prompt with every policy and compare what they reach."""
    classifier = serving_classifier(settings)
    arms: list[Arm] = []
    for named in policies:
        found = replay(named.policy, classifier, data.matrix, data.models, data.costs)
        arms.append(Arm(named.name, found.scores, found.costs, named.version))
    return compare(arms, plan=plan, domains=data.matrix.domains)


def file_hash(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        InvalidInput: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None


def table(comparison: Comparison, report: dict[str, Any]) -> str:
    """Return the report as a person reads it."""
    plan, lines = (
        comparison.plan,
        [f"{'policy':<28}{'score':>8}{'USD/1000':>12}  difference in score, in USD/1000, outcome"],
    )
    for name, (score, cost) in comparison.means.items():
        found = report["results"]["challengers"].get(name)
        text = "baseline" if found is None else _differences(found)
        lines.append(f"{name:<28}{score:>8.3f}{1000 * cost:>12.4f}  {text}")
    for result in comparison.results:
        lines.append(f"\n{result.name} against {plan.baseline}, by domain (exploration; p after Holm)")
        for domain, group in result.domains.items():
            p = "–" if group.p_holm is None else f"{group.p_holm:.3f}"
            lines.append(f"  {domain:<26}{group.n:>5}  {show(group.difference.to_json()):>26}  p {p}")
    lines.append(
        f"\nn = {comparison.n}, margin {plan.margin:g}, plan {plan.sha256[:12]}, MLflow run {report['run_id']}"
    )
    return "\n".join(lines)


def _differences(found: dict[str, Any]) -> str:
    cost = found["cost_difference_usd"]
    scaled = {"value": 1000 * cost["value"], "ci95": [1000 * end for end in cost["ci95"]]}
    return f"{show(found['score_difference'])}, {show(scaled, 4)}: {found['outcome']}"
