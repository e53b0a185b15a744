"""Jobs of a multirun: finished jobs are kept, a failed job does not stop the others, failures are listed at the end."""

import atexit
import contextlib
import datetime
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from scipy.optimize import nnls

from respike.errors import InputError, explain_failure
from respike.report.columns import duration
from respike.report.terminal import jobs_text, numbers_text, shown_path, terminal_width, time_left
from respike.runs.check import check_multirun
from respike.runs.folder import finished
from respike.runs.grid import check_grid, check_installed, check_places, check_sweeper, grid_jobs, varied
from respike.runs.offline import offline_lines
from respike.runs.one_process import one_process
from respike.system.distributed import rank
from respike.system.files import write_json
from respike.system.memory import keep_freed_memory
from respike.system.threads import cores

FAILURE = "failure.json"
# Why the job that has begun must not run: Hydra swallows what `SweepReport.on_job_start` raises.
_refused: list[str] = []


def run_job(train: Callable[[DictConfig, Sequence[str]], Any], cfg: DictConfig, overrides: Sequence[str]) -> Any:
    """Run one job of a sweep in cfg.paths.run, unless it is finished; returns its metrics.

    A job that fails writes failure.json, unless its folder is another job's, and returns the reason, a text. Where another
    process runs the same job, as of the same sweep, wait for it and keep what it has done.
    """
    if _refused:
        return _refused.pop()
    keep_freed_memory()  # a launcher's process is none of `run_command`
    folder = Path(cfg.paths.run)
    try:
        with one_process(folder):
            (folder / FAILURE).unlink(missing_ok=True)
            if finished(cfg, folder):
                return json.loads((folder / "metrics.json").read_text())
            return train(cfg, overrides)
    except Exception as error:
        why = explain_failure(error)
        if why is None:
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        with contextlib.suppress(OSError):  # of a full disk, which may be what the job failed of
            write_json(folder / FAILURE, {"overrides": list(overrides), "reason": why})
        return why


def seconds_left(
    jobs: Sequence[Mapping[str, Any]], left: int, at_once: int, steps: Sequence[float] | None = None
) -> float:
    """Estimate of the seconds that `left` jobs will take, from the records of the ended ones; NaN before a job has run.

    Kept and failed jobs tell nothing. A single training is taken to serve all jobs. steps: simulated by each job, by its
    number, where jobs differ in them: seconds are then taken to be a constant plus a number per step.
    """
    ran = [job for job in jobs if not job["kept"] and not job["failure"]]
    if not ran:
        return math.nan
    trainings = [job["fit_s"] for job in ran if job["fit_s"]]
    fit_s = trainings[0] if len(trainings) == 1 else 0.0
    seconds = [job["seconds"] - (fit_s if job["fit_s"] else 0.0) for job in ran]
    if not steps:
        return sum(seconds) / len(ran) * left / max(1, min(at_once, left))
    ended = [steps[job["number"]] for job in ran]
    known = np.array([[1.0, value] for value in ended] if len(set(ended)) > 1 else [[0.0, value] for value in ended])
    once, each = nnls(known, np.array(seconds))[0]
    others = set(range(len(steps))) - {job["number"] for job in jobs}
    return float(sum(once + each * steps[number] for number in others)) / max(1, min(at_once, left))


class SweepReport(Callback):
    """Checks the grid before a multirun, says in one line how each job ended, and ends with a table of the jobs.

    A copy of this object goes with each job into its process and leaves a record in the folder `records` of this multirun.
    So the jobs that are counted are those of this multirun, independently of clocks and of files of earlier multiruns.
    A job also leaves there whose folder it takes: another job of this multirun with the same folder fails.
    """

    def __init__(self):
        self.started = self.job_started = 0.0
        self.keys: list[str] = []
        self.planned = 0
        self.at_once = 1
        self.steps: list[float] = []  # of each job of several grids
        self.ended: list[dict[str, Any]] = []  # records that cannot be written
        self.records: Path | None = None
        self.stamp: int | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the launcher, the sweeper and the grid, and count its jobs."""
        self.started = time.monotonic()
        HydraConfig.instance().set_config(config)  # a name that is the model's is resolved before the first job
        typed = OmegaConf.to_container(config.hydra.overrides, resolve=False)
        assert isinstance(typed, dict)
        launcher, sweeper, task = config.hydra.launcher, config.hydra.sweeper, config.hydra.overrides.task
        try:
            check_installed(launcher._target_)
            check_installed(sweeper._target_)
            check_multirun(config)
            check_sweeper(sweeper, config.hydra.runtime.choices)
            if "BasicSweeper" in sweeper._target_:
                check_grid(task, sweeper.get("params"))
            jobs = grid_jobs(sweeper.grids, task) if "grids" in sweeper else None
            counts = varied(task, sweeper.get("params"))
            check_places(
                [key.lstrip("+") for key in counts],
                config.hydra.job.config.override_dirname.exclude_keys,
                [*typed["hydra"], *typed["task"]],
            )
        except InputError as error:
            print(f"respike: {error}", file=sys.stderr)
            sys.exit(1)
        self.keys = [key.lstrip("+") for key in counts]
        self.planned = math.prod(counts.values()) if "BasicSweeper" in sweeper._target_ else 0
        if jobs:
            self.keys = list(dict.fromkeys([*self.keys, *(key for grid in sweeper.grids for key in grid)]))
            self.planned = len(jobs)
            self.steps = _steps(jobs, config)
            print(
                f"{config.sweep_name}: {len(jobs)} job{'s' * (len(jobs) > 1)}{_budget(self.steps, config)}", flush=True
            )
        at_once = launcher.get("n_jobs") or launcher.get("array_parallelism") or 1
        self.at_once = at_once if at_once > 0 else max(1, cores() + 1 + at_once)  # joblib: -1 is all cores
        self.records = Path(config.hydra.sweep.dir, f".multirun-{uuid.uuid4().hex}").absolute()
        atexit.register(shutil.rmtree, self.records, ignore_errors=True)  # of a multirun that is interrupted

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the time, and whether the job has a result from earlier; refuse a job whose folder another one has taken."""
        self.job_started, self.stamp = time.monotonic(), _stamp(config)
        _refused[:] = self._refusal(config)

    def _refusal(self, config: DictConfig) -> list[str]:
        """Why the job must not run: another job of this multirun has its folder; [] if it may."""
        if self.records is None:
            return []
        folder, own = config.hydra.runtime.output_dir, list(config.hydra.overrides.task)
        claim = self.records / hashlib.sha256(folder.encode()).hexdigest()
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{claim}.lock"):
                if not claim.is_file():
                    write_json(claim, own)
                first = json.loads(claim.read_text(encoding="utf-8"))
        except OSError:  # of a full disk, which the job itself will report
            return []
        if first == own:  # also another process of a distributed job, and a job that a scheduler starts again
            return []
        other = " ".join(word for word in first if word not in own)
        return [
            f"shares the folder {shown_path(Path(folder))} with {other}; type another name= or sweep_name= for one of them"
        ]

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the job's record, and say how it ended and how long the others will take."""
        if self.records is None or rank() > 0:  # a single run, or another process of a distributed job
            return
        folder = Path(config.hydra.runtime.output_dir)
        returned = job_return.return_value
        metrics = returned if isinstance(returned, Mapping) else {}
        failure = "" if metrics else str(returned)
        typed = [word for word in job_return.overrides or () if word.lstrip("+").partition("=")[0] in self.keys]
        record = {
            "number": config.hydra.job.num,
            "overrides": ",".join(typed),
            "folder": str(folder),
            "failure": failure,
            "kept": bool(metrics) and _stamp(config) == self.stamp,
            "seconds": time.monotonic() - self.job_started,
            "fit_s": 0.0 if metrics.get("time/fit_was_cached", 1) else metrics["time/fit_s"],
        }
        try:
            write_json(self.records / f"{record['number']}.json", record)
        except OSError:
            self.ended.append(record)
        jobs = self._jobs()
        said = f"failed, {failure}" if failure else f"{'kept, ' if record['kept'] else ''}{numbers_text(metrics)}"
        left = self.planned - len(jobs)
        then = time_left(seconds_left(jobs, left, self.at_once, self.steps)) if left > 0 else ""
        of = f"/{self.planned}" if self.planned else ""
        print(f"[{len(jobs)}{of}] {record['overrides']}: {said}{then and f'; {then}'}", flush=True)

    def _jobs(self) -> list[dict[str, Any]]:
        """The records of the jobs that have ended, in the order of their numbers."""
        assert self.records is not None
        jobs = [json.loads(path.read_text()) for path in self.records.glob("*.json")] + self.ended
        return sorted(jobs, key=lambda job: job["number"])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table of the finished jobs, and why others failed; exit with status 1 if a job failed."""
        jobs = self._jobs()
        assert self.records is not None
        shutil.rmtree(self.records, ignore_errors=True)
        lost = max(0, self.planned - len(jobs))
        if not jobs and not lost:  # of a search that is complete, or whose settings are wrong
            return
        folders = {str(Path(job["folder"]).parent) for job in jobs}  # one for each experiment
        folder = Path(os.path.commonpath(folders)) if folders else Path(config.hydra.sweep.dir)
        failed = [job for job in jobs if job["failure"]]
        finished = [Path(job["folder"]) for job in jobs if not job["failure"]]
        kept = sum(job["kept"] for job in jobs)
        took = datetime.timedelta(seconds=round(time.monotonic() - self.started))
        print(f"\n{jobs_text(finished, terminal_width())}".rstrip())
        print(
            f"\n{shown_path(folder)}: {len(finished)} finished{f' ({kept} kept)' if kept else ''}, {len(failed)} failed, {took}"
        )
        for job in failed:
            print(f"  failed {job['overrides']}\n    {job['failure']}")
        if lost:
            print(f"  no record of {lost} jobs below {shown_path(self.records.parent)}, as on a full disk")
        place = shlex.quote(shown_path(folder))
        print(f"compare them: python -m respike.report {place} --compare --out outputs/comparison")
        for line in offline_lines(finished, folder):
            print(line)
        sys.stdout.flush()
        if failed or lost:
            sys.exit(1)


def _steps(jobs: Sequence[Sequence[str]], config: DictConfig) -> list[float]:
    """The steps that each job simulates; [] where not all jobs simulate rates, for a duration that is a number."""
    clock = [OmegaConf.select(config, f"simulate.{name}") for name in ("duration", "dt")]
    given = [dict(word.split("=", 1) for word in job) for job in jobs]
    try:
        return [
            float(job.get("simulate.duration", clock[0])) / float(job.get("simulate.dt", clock[1])) for job in given
        ]
    except (TypeError, ValueError, ZeroDivisionError):
        return []


def _budget(steps: Sequence[float], config: DictConfig) -> str:
    """The steps of all jobs, and the time that they may take by the budget of the experiment, of all its images.

    A tenth of the budget is taken to be what a job takes whatever its steps.
    """
    if not steps:
        return ""
    said = f", {sum(steps):,.0f} simulated steps of each image"
    reduced = config.data.get("test_size") or OmegaConf.select(config, "data.dataset.test_files")
    if not config.get("budget_min") or not config.experiment or reduced:
        return said
    described = (
        GlobalHydra.instance()
        .config_loader()
        .load_configuration(config.hydra.job.config_name, [f"experiment={config.experiment}"], RunMode.RUN)
    )
    whole = _steps([[]], described)[0]  # whatever is typed
    minutes = config.budget_min * sum(0.1 + 0.9 * each / whole for each in steps)
    return f"{said}: at most {duration(60 * minutes)} on two cores, by budget_min={config.budget_min:g} for {whole:.0f} steps"


def _stamp(config: DictConfig) -> int | None:
    """When the metrics of the job were written, None without them. A run removes them at its start."""
    path = Path(config.hydra.runtime.output_dir, "metrics.json")
    return path.stat().st_mtime_ns if path.is_file() else None
