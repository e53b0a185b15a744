"""Search instead of a grid: Optuna chooses the next jobs of a multirun from the results of the earlier jobs.

The study is saved as study.db in the sweep's folder. The same command continues it until it has n_trials trials.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobReturn
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from respike.errors import InputError
from respike.figures.front import front_figure
from respike.figures.style import save
from respike.system.cache import acquire
from respike.system.files import read_csv, write_csv

log = logging.getLogger(__name__)
AT = re.compile(r"acc_at_([\d.]+)ms")
Launch = Callable[..., Sequence[JobReturn]]


def distribution(override: Override) -> BaseDistribution:
    """The values that Optuna samples for an override: choice(a,b) or a,b; range(start,stop,step); interval(low,high).

    A range does not include its stop. An interval with the tag log, as in tag(log, interval(0.25,4)), is sampled uniformly
    in the logarithm. Raises InputError for other values, and for an interval that is empty, or that has no logarithm.
    """
    value = override.value()
    if isinstance(value, ChoiceSweep):
        choices: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
        return CategoricalDistribution(choices)
    if isinstance(value, IntervalSweep):
        low, high, log_scale = value.start, value.end, "log" in value.tags
        assert low is not None and high is not None  # an interval has both ends
        if low > high or (log_scale and low <= 0):
            raise InputError(
                f"{override.input_line}: from {low:g} to {high:g}; the lower end comes first{' and is above 0' * log_scale}, "
                f"as in {override.key_or_group}='interval(0.25,4)'"
            )
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log_scale)
        return FloatDistribution(low, high, log=log_scale)
    if not isinstance(value, RangeSweep):
        raise InputError(f"{override.input_line}: a search takes a list, range(...) or interval(...), no glob(...)")
    return CategoricalDistribution(list(value.range()))


def objective(metrics: Mapping[str, Any], folder: Path, name: str) -> float:
    """The value of an objective: a number of metrics.json, or, as acc_at_10ms, the accuracy of curves.csv after 10 ms.

    Raises InputError for a name that was not measured, and for a time outside the simulation.
    """
    if not (found := AT.fullmatch(name)):
        if name not in metrics:
            known = ", ".join(key for key, value in metrics.items() if isinstance(value, float | int))
            raise InputError(f"hydra.sweeper.objectives.{name}: not measured; there are acc_at_10ms and {known}")
        return float(metrics[name])
    file = folder / "curves.csv"
    table = read_csv(file) if file.is_file() else pd.DataFrame()
    table = table.reindex(columns=["time_ms", "acc"]).dropna()
    if table.empty:
        raise InputError(f"hydra.sweeper.objectives.{name}: only a rate-coded run has an accuracy after so many ms")
    curve = list(zip(table["time_ms"], table["acc"], strict=True))
    latency = float(found[1])
    if not curve[0][0] <= latency <= curve[-1][0] + 1e-9:
        raise InputError(
            f"{name}: the simulation runs from {curve[0][0]:g} to {curve[-1][0]:g} ms, see simulate.duration"
        )
    return [accuracy for time, accuracy in curve if time <= latency + 1e-9][-1]


class Search:
    """A study in `folder`.

    objectives: name -> maximize or minimize, one or two; `objective` describes the names. params: override key -> sweep, in
    the syntax of the command line; a key on the command line replaces the one here. n_trials: number of trials of the study.
    at_once: number of trials that are launched together. seed: seed of the sampler (TPE).
    Raises InputError for other values, and if the folder has a study with other settings.
    """

    def __init__(
        self,
        folder: str | Path,
        objectives: Mapping[str, Literal["maximize", "minimize"]],
        params: Mapping[str, str],
        n_trials: int,
        at_once: int = 1,
        seed: int = 0,
    ):
        if not 1 <= len(objectives) <= 2 or not set(objectives.values()) <= {"maximize", "minimize"}:
            raise InputError(
                "hydra.sweeper.objectives: one or two, each maximize or minimize, as in search=accuracy_at_latency"
            )
        for name, value in (("n_trials", n_trials), ("at_once", at_once)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"hydra.sweeper.{name}={value}: a number from 1 up")
        self.folder, self.objectives, self.params = Path(folder), dict(objectives), dict(params or {})
        self.n_trials, self.at_once, self.seed = n_trials, at_once, seed

    def run(self, launch: Launch, arguments: Sequence[str]) -> optuna.Study:
        """Run the missing trials of the study and write its tables. arguments: overrides of the command line.

        Waits for another process that runs the same study: every running trial is taken for an interrupted one.
        """
        space, fixed = self._space(arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".study.lock")
        acquire(lock, "runs the same search")
        try:
            return self._run(launch, space, fixed)
        finally:
            lock.release()

    def _run(self, launch: Launch, space: dict[str, BaseDistribution], fixed: list[str]) -> optuna.Study:
        study = self._study()
        while (left := self.n_trials - len(_done(study))) > 0:
            try:
                trials = [study.ask(space) for _ in range(min(left, self.at_once))]
            except ValueError as error:
                raise InputError(
                    f"{self.folder} has a study with other settings ({error}); type another name, as in sweep_name=another"
                ) from error
            jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
            for trial, job in zip(trials, launch(jobs, initial_job_idx=trials[0].number), strict=True):
                self._tell(study, trial, job)
        self._write(study)
        return study

    def _space(self, arguments: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
        parser = OverridesParser.create()
        typed = parser.parse_overrides(list(arguments))
        given = {override.key_or_group for override in typed}
        own = parser.parse_overrides([f"{key}={value}" for key, value in self.params.items() if key not in given])
        swept = [override for override in [*own, *typed] if override.is_sweep_override()]
        if not swept:
            raise InputError(
                "a search needs something to vary, as in neuron.threshold='interval(0.25,4)' or hydra.sweeper.params"
            )
        constant = [override for override in [*own, *typed] if not override.is_sweep_override()]
        fixed = [override.input_line for override in constant if override.input_line]
        return {override.get_key_element(): distribution(override) for override in swept}, fixed

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name=" ".join(f"{direction} {name}" for name, direction in self.objectives.items()),
            directions=list(self.objectives.values()),
            load_if_exists=True,
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # the study was interrupted during these trials
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(study.trials))
        return study

    def _tell(self, study: optuna.Study, trial: Trial, job: JobReturn) -> None:
        assert job.hydra_cfg is not None  # the launcher sets it
        folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
        trial.set_user_attr("folder", str(folder))
        if not isinstance(job.return_value, Mapping):  # the job failed; SweepReport prints the reason
            study.tell(trial, state=TrialState.FAIL)
            return
        values = [objective(job.return_value, folder, name) for name in self.objectives]
        study.tell(trial, values)
        found = ", ".join(f"{name} {value:.5g}" for name, value in zip(self.objectives, values, strict=True))
        log.info("trial %d of %d: %s", len(_done(study)), self.n_trials, found)

    def _write(self, study: optuna.Study) -> None:
        """Write trials.csv, and front.csv with the Pareto-optimal trials; with two objectives also front.png."""
        whole = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        if not whole:
            raise InputError(f"{self.folder}: every trial failed; failure.json in each trial's folder has the reason")
        best = sorted(study.best_trials, key=lambda trial: trial.values)
        for name, trials in (("trials.csv", whole), ("front.csv", best)):
            _table(self.folder / name, trials, list(self.objectives))
        if len(self.objectives) == 2:
            every, front = (
                pd.DataFrame([trial.values for trial in trials], columns=list(self.objectives))
                for trials in (whole, best)
            )
            save(front_figure(every, front), self.folder / "front.png")
        for trial in best:
            values = ", ".join(f"{name} {value:.5g}" for name, value in zip(self.objectives, trial.values, strict=True))
            print(f"best: {values}\n  {' '.join(f'{key}={value}' for key, value in trial.params.items())}", flush=True)


def _done(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have ended, also with a failure. Interrupted trials are not included."""
    return [trial for trial in study.trials if trial.state.is_finished() and "folder" in trial.user_attrs]


def _table(path: Path, trials: Sequence[FrozenTrial], objectives: list[str]) -> None:
    keys = sorted({key for trial in trials for key in trial.params})
    rows = [
        {
            "trial": trial.number,
            **dict(zip(objectives, trial.values, strict=True)),
            **{key: trial.params.get(key) for key in keys},
            "folder": trial.user_attrs["folder"],
        }
        for trial in trials
    ]
    write_csv(path, rows)
