"""Optuna studies in a journal file: opened by name, gone on with where they stopped."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from classifiers.search_spaces import Choice, Real, Space, Whole
from modelyard.errors import InvalidInput

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

ERROR: Final = "error"  # trial attribute: the sentence of the error that failed it


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What to search and for how long.

    Attributes:
        name: The study's name; the same name goes on with the same study.
        metric: Which of the objective's metrics is tuned.
        direction: Whether it should be small or large.
        trials: Trials that the study has in the end, those of earlier sessions included.
        start: Values of the first trial, or None.
        seed: Of the sampler.
        workers: Processes that compute trials; 1 computes them here.
    """

    name: str
    metric: str
    direction: Literal["minimize", "maximize"]
    trials: int
    start: Mapping[str, Any] | None = None
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise InvalidInput(f"A study's name needs letters, digits, '_', '-' and '.', but got {self.name!r}.")
        if self.trials < 1 or self.workers < 1:
            raise InvalidInput(f"A study needs trials and workers ≥ 1, but got {self.trials} and {self.workers}.")


def open_study(plan: StudyPlan, home: Path) -> Study:
    """Open a study or go on with the one of that name.

    Raises:
        InvalidInput: The study of that name has another direction, or its journal is damaged.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState

    folder = home / "optuna"
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / f"{plan.name}.journal"
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(
            study_name=plan.name, storage=storage, direction=plan.direction, load_if_exists=True
        )
    except (ValueError, KeyError, TypeError) as error:  # a line that is not JSON, or not an entry
        raise InvalidInput(f"The journal {journal} of the study {plan.name!r} is damaged: {error}.") from None
    if study.direction.name.lower() != plan.direction:
        raise InvalidInput(
            f"The study {plan.name!r} was begun to {study.direction.name.lower()}, not to {plan.direction}."
        )
    trials = study.get_trials()
    for trial in trials:
        if trial.state == TrialState.RUNNING:  # of a session that died
            study.tell(trial.number, state=TrialState.FAIL)
    # The same seed again would draw the same first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(trials), multivariate=False)
    begun = any(trial.state in {TrialState.COMPLETE, TrialState.WAITING} for trial in trials)
    if plan.start is not None and not begun:
        study.enqueue_trial(dict(plan.start))
    return study


def trials_left(study: Study, plan: StudyPlan) -> int:
    """Return how many trials are still to be made; one that an interruption cut off is made again."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    return plan.trials - sum(trial.state == TrialState.COMPLETE or ERROR in trial.user_attrs for trial in trials)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return a space as Optuna names it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, BaseDistribution] = {}
    for name, dimension in space.items():
        match dimension:
            case Choice(options):
                made[name] = CategoricalDistribution(options)
            case Whole(low, high, log):
                made[name] = IntDistribution(low, high, log=log)
            case Real(low, high, log):
                made[name] = FloatDistribution(low, high, log=log)
    return made


@contextmanager
def quiet() -> Generator[None]:
    """Keep Optuna from telling every trial on stderr."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
