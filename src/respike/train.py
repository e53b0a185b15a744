"""One run: config -> objects -> training -> test, where the callbacks convert, simulate and log.

python -m respike.train experiment=diehl_fc encode.max_rate=400
"""

import datetime
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
import pytorch_lightning as pl
import wandb
from hydra._internal import utils as hydra_utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from respike.callbacks.log import RunMetrics, log_headlines, log_metrics, make_logger
from respike.errors import InputError, explain
from respike.report.terminal import run_text, terminal_width
from respike.runs.check import check_machine, own_code
from respike.runs.compose import check_run, compose_run, override_error, take_from_file
from respike.runs.conf import CONF
from respike.runs.folder import RunFolder, run_facts
from respike.runs.offline import offline_lines
from respike.runs.overrides import check_typed
from respike.runs.sweep import run_job
from respike.system.cache import depend_on
from respike.system.distributed import init_distributed, rank
from respike.system.messages import quiet_libraries
from respike.system.provenance import provenance
from respike.system.signals import run_command
from respike.system.threads import set_threads
from respike.training.classifier import Classifier
from respike.training.fit import (
    check_fit,
    check_loss,
    fit_metrics,
    fit_once,
    give_weights,
    interruptible,
    start_from,
    untrained,
)


def train(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, float | str]:
    """Run the experiment of a composed config in cfg.paths.run; returns the content of metrics.json.

    overrides: the settings that were typed; a run whose settings they change is not compared with the paper.
    Raises InputError for a mistake in the config, the data or the files.
    """
    check_machine(cfg)
    depend_on(own_code(cfg))
    quiet_libraries()
    set_threads(cfg.get("threads", "auto"))
    folder = RunFolder(cfg)
    try:
        metrics = _train(cfg, folder, overrides)
    except BaseException:
        _finish_wandb(exit_code=1)  # W&B lists the run as failed
        raise
    _finish_wandb()
    return metrics


def _finish_wandb(exit_code: int = 0) -> None:
    """End the run of W&B, if there is one: otherwise the next run of this process would continue it."""
    if wandb.run is not None:
        wandb.finish(exit_code)


def _train(cfg: DictConfig, folder: RunFolder, overrides: Sequence[str]) -> dict[str, float | str]:
    start, started = time.perf_counter(), datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    pl.seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    data.setup()
    module = untrained(cfg, data)
    check_fit(module.net, data)
    check_loss(module, data)
    _check_penalty(cfg, module)
    facts = run_facts(cfg, data, overrides)
    metrics = RunMetrics()
    trainer = _trainer(cfg, metrics, facts, overrides)
    if cfg.get("start") and not cfg.ckpt_path:
        start_from(module, _start(cfg).net, cfg.start)
        pl.seed_everything(cfg.seed, verbose=False)  # whether the start was trained just now or earlier
    stage = give_weights(cfg, trainer, module, data)
    fit = {}
    if stage is not None:
        folder.keep_history(stage.folder / "history.csv")
        fit = fit_metrics(cfg, stage, module.kind)
    tested = time.perf_counter()
    with interruptible(trainer):
        trainer.test(module, datamodule=data, verbose=False)
    log_metrics(trainer, fit | _seconds(metrics.values | fit, start, tested))
    log_headlines(trainer, metrics.values)
    device = trainer.strategy.root_device
    images = data.images
    digests = {"name": images.name, "sha256": images.sha256, "pixels_sha256": images.pixels_sha256}
    origin = provenance(digests, cfg.seed, device, started)
    return folder.finish(metrics.values | facts, origin, trainer)


def _check_penalty(cfg: DictConfig, module: pl.LightningModule) -> None:
    """Raise InputError for a penalty on activations that a training would not feel."""
    penalty = module.activity_penalty if type(module) is Classifier else 0.0  # training in spike time makes its own
    if cfg.train and penalty and not any(isinstance(part, nn.ReLU) for part in module.net.modules()):
        raise InputError(
            f"recipe.activity_penalty={penalty}: penalizes activations of nn.ReLU modules, and the network has "
            "none (F.relu, ReLU6 and QCFS are none); type recipe.activity_penalty=0, or write them as nn.ReLU"
        )


def _start(cfg: DictConfig) -> pl.LightningModule:
    """The module that the experiment cfg.start trains, with the seed, the files and the number of images of this run."""
    first = compose_run([f"experiment={cfg.start}", "name=start", "logger=none"])
    kept = {name: OmegaConf.select(cfg, name) for name in ("seed", "data.train_size")}
    kept |= {f"paths.{name}": cfg.paths[name] for name in ("data", "outputs", "stages")}
    if "download" in (cfg.data.get("dataset") or {}):
        kept["data.dataset.download"] = cfg.data.dataset.download
    for name, value in (kept | {"paths.run": str(Path(cfg.paths.run, "start")), "callbacks": {}}).items():
        OmegaConf.update(first, name, value, merge=False, force_add=True)
    pl.seed_everything(cfg.seed, verbose=False)  # as the experiment itself begins
    data = instantiate(first.data)
    data.setup()
    module = untrained(first, data)
    fit_once(first, _trainer(first, RunMetrics(), {}, ()), module, data)
    return module


def _trainer(cfg: DictConfig, metrics: RunMetrics, facts: dict[str, str | int], overrides: Sequence[str]) -> pl.Trainer:
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback]
    chosen: list[Any] = [make_logger(cfg)] if cfg.logger else []
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    for logger in chosen:
        logger.log_hyperparams(resolved | {"facts": facts})
    bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()  # elsewhere EpochHistory writes a line per epoch
    try:
        trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=[*chosen, metrics], enable_progress_bar=bar)
    except InstantiationException as error:  # Lightning refuses some values only when they meet
        line = " ".join(word for word in overrides if word.lstrip("+").startswith("trainer")) or "trainer"
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{line}: {reason}; type other values, or leave them out") from error
    init_distributed(trainer)
    return trainer


def _seconds(metrics: Mapping[str, float], start: float, tested: float) -> dict[str, float]:
    """Seconds of the test without conversion and simulation, and of the run.

    A cached training and a cached conversion were done before: the run counts with their seconds, the test without.
    """
    now = time.perf_counter()
    spent = {name: metrics.get(f"time/{name}_s", 0.0) for name in ("fit", "convert", "simulate")}
    earlier = {name: seconds for name, seconds in spent.items() if metrics.get(f"time/{name}_was_cached")}
    inner = sum(spent[name] for name in ("convert", "simulate") if name not in earlier)
    return {"time/test_s": now - tested - inner, "time/total_s": now - start + sum(earlier.values())}


def _print_end(cfg: DictConfig) -> None:
    """The short table with which a run ends."""
    folder = Path(cfg.paths.run)
    print(f"\n{run_text(folder, terminal_width())}", flush=True)
    for line in offline_lines([folder], Path(cfg.paths.outputs)):
        print(line, flush=True)


def _job(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, float | str]:
    check_run(cfg, HydraConfig.get().runtime.choices, overrides)
    return train(cfg, overrides)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run_config(cfg: DictConfig) -> Any:
    """Run the config that Hydra composed. An InputError is one line on stderr and status 1; in a sweep, one failed job."""
    try:
        take_from_file(cfg, HydraConfig.get().overrides.task)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_job(_job, cfg, HydraConfig.get().overrides.task)
        _job(cfg, HydraConfig.get().overrides.task)
        if rank() == 0:
            _print_end(cfg)
    except Exception as error:
        line = explain(error) or override_error(error, HydraConfig.get().overrides.task)
        if line is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if rank() == 0:
            print(f"respike: {line}", file=sys.stderr)
        sys.exit(1)


def main() -> Any:
    """The command line: `run_config`, with mistakes in the overrides, which Hydra reports in several lines, as one line."""
    # Hydra takes the flag of a sweep in front of the overrides or behind them, not between
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    typed = [word for word in sys.argv[1:] if not word.startswith("-")]
    overrides = [word for word in typed if "=" in word or word.startswith("~")]
    report, full = hydra_utils.run_and_report, os.environ.get("HYDRA_FULL_ERROR") == "1"

    def run_and_report(run: Callable[[], Any]) -> Any:
        def explained() -> Any:
            try:
                return run()
            except Exception as error:
                line = None if full else override_error(error, overrides)
                if line is None:
                    raise
                raise SystemExit(_one_line(line)) from error

        return report(explained)

    try:
        check_typed(overrides)
    except InputError as error:
        sys.exit(_one_line(str(error)))
    with mock.patch.object(hydra_utils, "run_and_report", run_and_report):
        return run_config()


def _one_line(line: str) -> int:
    """Print a mistake; returns the exit status."""
    if rank() == 0:
        print(f"respike: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    run_command(main, "finished jobs, stages and epochs are kept, the same command continues")
