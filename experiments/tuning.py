"""Tuning: an Optuna study as one MLflow run with a child run a trial, resumable by its name.

Trials are kept in a journal in the home, so that an interrupted study goes on where it stopped; the asking and telling is done here, and a
trial may be computed in another process. The first trial is the parameters that serve without tuning: a study cannot end below them on its
own metric. (`mlflow.optuna.MlflowStorage` reads every child run again at each trial; a child run a trial costs 0.05 s instead.)
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from classifiers.search_spaces import Space
from experiments.objectives import Objective
from experiments.studies import ERROR, StudyPlan, distributions, open_study, quiet, trials_left
from experiments.tracking import Run, Tracker, new_figure
from modelyard.errors import InvalidInput, ModelyardError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study, Trial

PARENT: Final = "modelyard_run"  # study attribute: the MLflow run that its trials are children of


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a study found; `history` is each completed trial's metric in order."""

    study: str
    values: dict[str, Any]
    best: float
    first: float
    history: tuple[float, ...]
    failed: int
    run_id: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready facts."""
        return {
            "study": self.study,
            "best": self.best,
            "first": self.first,
            "values": self.values,
            "history": list(self.history),
            "failed": self.failed,
            "run_id": self.run_id,
        }


def tune(objective: Objective, space: Space, plan: StudyPlan, tracker: Tracker) -> Tuned:
    """Search a space.

    Args:
        objective: What a trial computes. One that raises a ModelyardError fails its trial only.
        space: What may change.
        plan: How long, and which metric.
        tracker: Where it is logged.

    Raises:
        InvalidInput: Every trial failed, the objective lacks the metric, or the study of that name has another direction.
    """
    with quiet():
        study = open_study(plan, tracker.settings.home)
        with ExitStack() as stack:
            parent = stack.enter_context(_parent(study, plan, tracker))
            pool = stack.enter_context(_pool(plan.workers))
            _run_trials(study, objective, space, _Session(plan, tracker, parent, pool))
            return _conclude(study, plan, parent)


@dataclass(frozen=True, slots=True)
class _Session:
    plan: StudyPlan
    tracker: Tracker
    parent: Run
    pool: Executor | None


def _run_trials(study: Study, objective: Objective, space: Space, session: _Session) -> None:
    plan, dimensions = session.plan, distributions(space)
    left = trials_left(study, plan)
    pending: dict[Future[Mapping[str, float]], Trial] = {}
    while left > 0 or pending:
        while left > 0 and len(pending) < plan.workers:
            trial = study.ask(dimensions)
            pending[_submit(session.pool, objective, trial.params)] = trial
            left -= 1
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            _tell(study, pending.pop(future), future, session)


def _submit(pool: Executor | None, objective: Objective, values: Mapping[str, Any]) -> Future[Mapping[str, float]]:
    if pool is not None:
        return pool.submit(objective, dict(values))
    future: Future[Mapping[str, float]] = Future()
    try:
        future.set_result(objective(dict(values)))
    except ModelyardError as error:
        future.set_exception(error)
    return future


def _tell(study: Study, trial: Trial, future: Future[Mapping[str, float]], session: _Session) -> None:
    from optuna.trial import TrialState

    plan, number = session.plan, f"trial-{trial.number:03d}"
    try:
        with session.tracker.run(
            number, parent=session.parent, params=trial.params, tags={"trial": str(trial.number)}
        ) as run:
            metrics = future.result()
            if plan.metric not in metrics:
                raise InvalidInput(f"The objective gives {', '.join(metrics)}, but the study tunes {plan.metric!r}.")
            run.log_metrics(metrics)
            value = metrics[plan.metric]
            if not np.isfinite(value):
                raise InvalidInput(f"The trial's {plan.metric} is {value}.")
    except ModelyardError as error:
        trial.set_user_attr(ERROR, str(error))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)


def _conclude(study: Study, plan: StudyPlan, parent: Run) -> Tuned:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    failed = [t for t in trials if t.state == TrialState.FAIL]
    if not complete:
        errors = [t.user_attrs[ERROR] for t in failed if ERROR in t.user_attrs]
        raise InvalidInput(
            f"Every trial of the study {plan.name!r} failed, the last with: {errors[-1] if errors else 'an interruption'}"
        )
    history = tuple(float(t.value) for t in complete if t.value is not None)
    tuned = Tuned(plan.name, dict(study.best_params), study.best_value, history[0], history, len(failed), parent.id)
    parent.log_metrics(
        {
            f"best.{plan.metric}": tuned.best,
            f"first.{plan.metric}": tuned.first,
            "trials": len(history),
            "failed": len(failed),
        }
    )
    parent.log_series(plan.metric, history)
    parent.log_json(tuned.to_json(), "tuned.json")
    parent.log_figure(draw_history(tuned, plan), "history.png")
    return tuned


def draw_history(tuned: Tuned, plan: StudyPlan) -> Figure:
    """Draw each trial's metric and the best one so far."""
    figure = new_figure()
    axes = figure.subplots()
    numbers = np.arange(len(tuned.history))
    best = (np.minimum if plan.direction == "minimize" else np.maximum).accumulate(np.array(tuned.history))
    axes.plot(numbers, tuned.history, "o", color="#7f9fbf", label="trial")
    axes.step(numbers, best, where="post", color="#1f4e79", label="best so far")
    axes.set_xlabel("completed trial (0: the defaults)" if plan.start else "completed trial")
    axes.set_ylabel(plan.metric)
    axes.legend()
    return figure


@contextmanager
def _parent(study: Study, plan: StudyPlan, tracker: Tracker) -> Generator[Run]:
    known = study.user_attrs.get(PARENT)
    if known is not None and tracker.has(known):
        with tracker.resume(known) as run:
            yield run
        return
    params = {"metric": plan.metric, "direction": plan.direction, "seed": plan.seed}
    with tracker.run(f"tune-{plan.name}", tags={"modelyard.study": plan.name}, params=params) as run:
        study.set_user_attr(PARENT, run.id)
        yield run


@contextmanager
def _pool(workers: int) -> Generator[Executor | None]:
    if workers == 1:
        yield None
        return
    # Spawned, not forked: the tracking store's threads and locks must not be copied into the workers.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
