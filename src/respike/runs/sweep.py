"""Jobs of a multirun: finished jobs are kept, a failed job does not stop the others, failures are listed at the end."""

import datetime
import importlib.util
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from respike.errors import InputError, explain
from respike.runs.folder import finished
from respike.runs.old_names import check_words
from respike.system.files import write_json

FAILURE = "failure.json"
OPTIONAL = {  # class of hydra.launcher or hydra.sweeper -> what selects it, and the module that it needs
    "JoblibLauncher": ("hydra/launcher=joblib", "hydra_plugins.hydra_joblib_launcher"),
    "SlurmLauncher": ("hydra/launcher=submitit_slurm", "hydra_plugins.hydra_submitit_launcher"),
    "OptunaSearch": ("hydra/sweeper=optuna", "optuna"),
}
log = logging.getLogger(__name__)


def run_job(train: Callable[[DictConfig, Sequence[str]], Any], cfg: DictConfig, overrides: Sequence[str]) -> Any:
    """Run one job of a sweep in cfg.paths.run, unless it is finished. A job that fails writes failure.json, returns None."""
    folder = Path(cfg.paths.run)
    try:
        if finished(cfg, folder):
            log.info("kept %s: finished earlier with the same config", folder)
            return json.loads((folder / "metrics.json").read_text())
        (folder / FAILURE).unlink(missing_ok=True)
        return train(cfg, overrides)
    except Exception as error:
        reason = explain(error)
        if reason is None:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        failure = {"overrides": list(overrides), "reason": reason, "time": time.time()}
        write_json(folder / FAILURE, failure)
        log.error("failed %s: %s", ", ".join(overrides), reason)
        return None


def check_grid(overrides: Sequence[str], params: dict[str, str] | None) -> None:
    """Raise InputError for a sweep that varies nothing, a key without a value, or an old name in the sweeper's parameters."""
    check_words(f"{key}={values}" for key, values in (params or {}).items())
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    for override in parsed:
        if override.value() == "":
            raise InputError(f"{override.input_line}: no value to sweep over; as in {override.key_or_group}=0.5,1,2")
    if not params and not any(override.is_sweep_override() for override in parsed):
        raise InputError(
            "a sweep needs something to vary: give several values, as in neuron.threshold=0.5,1,2, or a named sweep, "
            "as in sweep=threshold_rate"
        )


def check_installed(target: str) -> None:
    """Raise InputError if the optional package of a launcher or sweeper is not installed. target: its _target_."""
    choice, module = OPTIONAL.get(target.rpartition(".")[2], ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise InputError(f"{choice} needs {module}, which is not installed: pip install 'respike[cluster]'")


class SweepReport(Callback):
    """Checks the grid before a multirun. After it, prints the number of jobs and why jobs failed; then the status is 1."""

    def __init__(self):
        self.start = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the launcher, the sweeper and the grid."""
        self.start = time.time()
        sweeper = config.hydra.sweeper
        try:
            check_installed(config.hydra.launcher._target_)
            check_installed(sweeper._target_)
            if "BasicSweeper" in sweeper._target_:
                check_grid(config.hydra.overrides.task, sweeper.get("params"))
        except InputError as error:
            print(f"respike: {error}", file=sys.stderr)
            sys.exit(1)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the number of jobs and the failures; exit with status 1 if a job failed."""
        folder = Path(config.hydra.sweep.dir)
        done = len(list(folder.rglob("metrics.json")))
        failures = [json.loads(path.read_text()) for path in sorted(folder.rglob(FAILURE))]
        failed = [failure for failure in failures if failure["time"] >= self.start]
        took = datetime.timedelta(seconds=round(time.time() - self.start))
        print(f"\n{folder}: {done} finished jobs, {len(failed)} failed, {took}", flush=True)
        for failure in failed:
            print(f"  failed {', '.join(failure['overrides'])}\n    {failure['reason']}", flush=True)
        print(f"compare them: make compare RUNS={folder}", flush=True)
        if failed:
            sys.exit(1)
