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
FREE = ("logger", "threads", "name", "sweep_name", "paths.outputs", "paths.stages")  # keys that change no result
Launch = Callable[..., Sequence[JobReturn]]


def distribution(override: Override) -> BaseDistribution:
    """The values that Optuna samples for an override: choice(a,b) or a,b; range(start,stop,step); interval(low,high).

    A range does not include its stop. An interval with the tag log, as in tag(log, interval(0.25,4)), is sampled uniformly
    in the logarithm. Raises InputError for other values, and for a range or an interval that is empty or has no logarithm.
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
    steps = list(value.range())
    if not steps:
        raise InputError(
            f"{override.input_line}: no value is in this range; the start comes first, "
            f"as in {override.key_or_group}='range(1,5)'"
        )
    return CategoricalDistribution(steps)


def objective(metrics: Mapping[str, Any], folder: Path, name: str) -> float:
    """The value of an objective: a number of metrics.json, or, as acc_at_10ms, the accuracy of curves.csv after 10 ms.

    Raises InputError for a name that was not measured or is no number, and for a time outside the simulation.
    """
    if not (found := AT.fullmatch(name)):
        if not isinstance(metrics.get(name), float | int):
            known = ", ".join(key for key, value in metrics.items() if isinstance(value, float | int))
            what = f"is {metrics[name]!r}, no number" if name in metrics else "not measured"
            raise InputError(f"hydra.sweeper.objectives.{name}: {what}; there are acc_at_10ms and {known}")
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
        space, fixed, settings = self._space(arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".study.lock")
        acquire(lock, "runs the same search")
        try:
            return self._run(launch, space, fixed, settings)
        finally:
            lock.release()

    def _run(
        self, launch: Launch, space: dict[str, BaseDistribution], fixed: list[str], settings: list[str]
    ) -> optuna.Study:
        study, failed = self._study(settings), 0  # failures of earlier calls do not count: they are repeated
        while (left := self.n_trials - len(_whole(study)) - failed) > 0:
            try:
                trials = [study.ask(space) for _ in range(min(left, self.at_once))]
            except ValueError as error:
                raise self._other_study(error) from error
            jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
            for trial, job in zip(trials, launch(jobs, initial_job_idx=trials[0].number), strict=True):
                failed += not self._tell(study, trial, job)
        self._write(study)
        return study

    def _space(self, arguments: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str], list[str]]:
        """What varies, the overrides that do not, and the lines of both that decide the results."""
        parser = OverridesParser.create()
        typed = parser.parse_overrides(list(arguments))
        given = {override.get_key_element().lstrip("+~") for override in typed}
        own = parser.parse_overrides([f"{key}={value}" for key, value in self.params.items() if key not in given])
        swept = [override for override in [*own, *typed] if override.is_sweep_override()]
        if not swept:
            raise InputError(
                "a search needs something to vary, as in neuron.threshold='interval(0.25,4)' or hydra.sweeper.params"
            )
        constant = [override for override in [*own, *typed] if not override.is_sweep_override()]
        fixed = [override.input_line for override in constant if override.input_line]
        settings = sorted(
            override.input_line
            for override in [*own, *typed]
            if override.input_line and not f"{override.key_or_group}.".startswith(tuple(f"{key}." for key in FREE))
        )
        return {override.get_key_element(): distribution(override) for override in swept}, fixed, settings

    def _study(self, settings: list[str]) -> optuna.Study:
        """The study of the folder, with the trials that were interrupted or failed in line to be repeated.

        One without any result is begun anew if it was made with other settings.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = f"sqlite:///{self.folder / 'study.db'}"
        name = " ".join(f"{direction} {name}" for name, direction in self.objectives.items())
        directions = list(self.objectives.values())
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        earlier = study.user_attrs.get("settings", settings)  # a study of an earlier version has none
        if earlier != settings and _whole(study):
            others = [
                " ".join(line for line in one if line not in two)
                for one, two in ((earlier, settings), (settings, earlier))
            ]
            raise self._other_study(f"{others[0] or 'nothing'} in place of {others[1] or 'nothing'}")
        if earlier != settings:
            optuna.delete_study(study_name=name, storage=storage)
            study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        study.set_user_attr("settings", settings)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # the study was interrupted during these trials
            study.tell(trial.number, state=TrialState.FAIL)
        waiting = study.get_trials(states=(TrialState.WAITING,))
        settled = [trial.params for trial in _whole(study)] + [trial.system_attrs["fixed_params"] for trial in waiting]
        for trial in study.get_trials(states=(TrialState.FAIL,)):
            if trial.params not in settled:
                study.enqueue_trial(trial.params)
                settled.append(trial.params)
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(study.trials))
        return study

    def _other_study(self, what: object) -> InputError:
        return InputError(
            f"{self.folder} has a study with other settings ({what}); type another name, as in sweep_name=another"
        )

    def _tell(self, study: optuna.Study, trial: Trial, job: JobReturn) -> bool:
        """Tell the study how a job ended; returns whether it has a result."""
        assert job.hydra_cfg is not None  # the launcher sets it
        folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
        trial.set_user_attr("folder", str(folder))
        if not isinstance(job.return_value, Mapping):  # the job failed; SweepReport prints the reason
            study.tell(trial, state=TrialState.FAIL)
            return False
        values = [objective(job.return_value, folder, name) for name in self.objectives]
        told = study.tell(trial, values)  # NaN is a failure
        found = ", ".join(f"{name} {value:.5g}" for name, value in zip(self.objectives, values, strict=True))
        log.info("trial %d of %d: %s", len(_whole(study)), self.n_trials, found)
        return told.state == TrialState.COMPLETE

    def _write(self, study: optuna.Study) -> None:
        """Write trials.csv, and front.csv with the Pareto-optimal trials; with two objectives also front.png."""
        whole = _whole(study)
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


def _whole(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a result."""
    return study.get_trials(states=(TrialState.COMPLETE,))


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
