"""Presets of conf/report. Each row of a preset is one run, or one per seed; finished runs are kept."""

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from respike.errors import InputError, explain_failure
from respike.neurons.encode import SpikeEncoder
from respike.report import load_runs
from respike.report.columns import duration
from respike.report.terminal import numbers_text, shown_path, time_left
from respike.runs.compose import CONF, compose_run, names
from respike.runs.folder import finished
from respike.runs.one_process import one_process

OF_ROWS = ("experiment", "name", "paths.run", "sweep", "search")  # a row has the first three, and no sweep
SHORT_TRAINING = 300.0  # seconds: rows that train longer are run with one seed


def check_overrides(typed: Sequence[str]) -> None:
    """Raise InputError for overrides that the rows do not take: of what a row decides, and with several values."""
    for line, override in zip(typed, OverridesParser.create().parse_overrides(list(typed)), strict=True):
        key = override.key_or_group
        if key in OF_ROWS:
            raise InputError(
                f"{line}: each row of a preset has its own {key}, or none; leave it out, or type python -m respike.train {line}"
            )
        if override.is_sweep_override():
            seeds = ", or --seeds=N (make: SEEDS=N) for N seeds" if key == "seed" else ""
            raise InputError(f"{line}: a row takes one value; type {key}=VALUE{seeds}")


def load_preset(name: str, typed: Sequence[str] = ()) -> DictConfig:
    """The preset conf/report/<name>.yaml with its paths, typed ones first. Raises InputError for an unknown name."""
    if name not in names("report"):
        known = ", ".join(names("report"))
        raise InputError(f"preset {name}: unknown, choose one of {known}, as in make reproduce-paper PRESET=quick")
    paths = OmegaConf.load(CONF / "paths" / "default.yaml")
    preset = OmegaConf.merge({"paths": paths, "common": []}, OmegaConf.load(CONF / "report" / f"{name}.yaml"))
    assert isinstance(preset, DictConfig)
    for override in OverridesParser.create().parse_overrides(list(typed)):
        if override.key_or_group in ("paths.outputs", "paths.data"):
            OmegaConf.update(preset, override.key_or_group, str(override.value()))
    return preset


def choose_rows(preset: DictConfig, only: str) -> None:
    """Leave only these rows in the preset, names separated by commas; "" leaves all. Raises InputError for other names."""
    chosen, known = [name.strip() for name in only.split(",") if name.strip()], [str(row.name) for row in preset.rows]
    if only and not chosen:
        raise InputError(f"--only={only}: names no row; choose from {', '.join(known)}")
    if unknown := [name for name in chosen if name not in known]:
        raise InputError(f"--only={only}: there is no row {', '.join(unknown)}; choose from {', '.join(known)}")
    if chosen:
        preset.rows = [row for row in preset.rows if row.name in chosen]


def remove_run(folder: Path) -> None:
    """Remove the run in this folder, if there is one; nothing else, and nothing that a link leads to."""
    if _is_run(folder):
        shutil.rmtree(folder)


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and not folder.is_symlink()


def row_config(
    preset: DictConfig, row: DictConfig, extra: Sequence[str], folder: Path, short: bool = False
) -> DictConfig:
    """The composed config of one row: the preset's common overrides, the row's, then those typed on the command line.

    A row's on_gpu are its overrides on a machine with a GPU. short: take the row's short form, with its own overrides and
    budget_min, where there is one. Raises InputError for choices that do not go together.
    """
    form = row.short if short and row.get("short") else row
    chosen = row.on_gpu if _runs_on_gpu(row) else form.overrides
    given = OmegaConf.to_container(
        OmegaConf.create([preset.common, chosen]), resolve=False
    )  # Hydra resolves ${paths.data}
    assert isinstance(given, list)
    place = QuotedString(str(folder), Quote.double).with_quotes()
    cfg = compose_run([*given[0], *given[1], *extra, f"paths.run={place}", f"name={row.name}"])
    OmegaConf.set_struct(cfg, False)
    if row.get("title"):
        cfg.paper.title = row.title
    if form.get("budget_min"):
        cfg.budget_min = form.budget_min
    return cfg


def _runs_on_gpu(row: DictConfig) -> bool:
    return bool(row.get("on_gpu")) and torch.cuda.is_available()


def number_of_seeds(given: str) -> int:
    """The number of seeds that --seeds gives. Raises InputError for anything but a whole number from 1 up."""
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"SEEDS={given}: a whole number from 1 up, as in make reproduce-paper SEEDS=5")
    return int(given)


class _Row:
    """A row of a preset, composed. reason: why it is not run, "" if it is; failed: whether the reason is a mistake.

    fit_s: seconds of its training, an estimate until it has run once. fresh: its finished runs are run again, but not one that
    was run in full, which this command would not do.
    """

    def __init__(
        self, preset: DictConfig, row: DictConfig, extra: Sequence[str], folder: Path, long: bool, fresh: bool = False
    ):
        self.preset, self.row, self.extra, self.folder = preset, row, extra, folder
        self.name, self.reason, self.failed = str(row.name), "", False
        for what, places in (row.get("needs") or {}).items():
            if not any(Path(os.path.expanduser(preset.paths.data), place).exists() for place in places):
                self.reason = f"missing in the data folder: {what}"
                return
        self.short = False  # whether it is run in its short form; not where the whole run is there
        self.fresh = fresh
        try:
            self.cfg = row_config(preset, row, extra, folder / self.name)
            self.whole_minutes = self.cfg.budget_min or 0.0
            if not long and finished(self.cfg, folder / self.name):
                spared = bool(row.get("short") or row.get("long")) and not _runs_on_gpu(row)
                self.fresh = fresh and not spared
            elif not long:
                if row.get("long") and not _runs_on_gpu(row):
                    self.reason = f"takes {self.cfg.budget_min or 'many'} minutes, add --long (make: ARGS=--long)"
                elif row.get("short"):
                    self.short = True
                    self.cfg = row_config(preset, row, extra, folder / self.name, short=True)
            self.minutes = self.cfg.budget_min or 0.0
            self.fit_s = 60.0 * self.minutes
            if not self.reason and finished(self.cfg, folder / self.name):
                metrics = json.loads((folder / self.name / "metrics.json").read_text(encoding="utf-8"))
                self.fit_s = float(metrics.get("time/fit_s", 0.0))
        except Exception as error:
            self.reason, self.failed = _reason(error), True

    def run(self, position: int) -> tuple[str, DictConfig, Path]:
        """Name, config and folder of the run with the row's own seed (0), or with one of the next seeds."""
        if position == 0:
            return self.name, self.cfg, self.folder / self.name
        seed = self.cfg.seed + position
        place = self.folder / f"{self.name}-seed{seed}"
        return place.name, row_config(self.preset, self.row, [*self.extra, f"seed={seed}"], place, self.short), place

    def keep_in_full(self, place: Path) -> None:
        """If another process has done the row in full since it was planned in its short form, take the full form instead."""
        if not (self.short and (place / "metrics.json").is_file()):
            return
        whole = row_config(self.preset, self.row, self.extra, place)
        if finished(whole, place):
            self.cfg, self.short, self.fresh, self.minutes = whole, False, False, self.whole_minutes

    def once(self) -> str:
        """Why one seed is enough, "" if several are run."""
        if any(str(override).startswith("seed=") for override in self.row.overrides):
            return "which the row names"
        if self.cfg.train:
            long = self.fit_s > SHORT_TRAINING
            return f"because its training takes {duration(self.fit_s)}" if long else ""
        starts = self.cfg.get("start") and not self.cfg.ckpt_path  # from weights that are trained with the row's seed
        return "" if starts or _is_random(self.cfg) else "because nothing in it is random"

    def count(self, seeds: int) -> int:
        """Number of runs: one, or one per seed."""
        return 1 if self.reason or self.once() else seeds

    def left(self, seeds: int, first: int = 0) -> int:
        """How many of its runs, from the position `first` on, have no result yet, or are run again."""
        runs = [self.run(position) for position in range(first, 0 if self.reason else self.count(seeds))]
        return sum((self.fresh and _is_run(place)) or not finished(cfg, place) for _, cfg, place in runs)

    def left_or_failed(self, seeds: int) -> int:
        """`left`; a row whose data or files cannot be read has failed, and the others are run."""
        try:
            return self.left(seeds)
        except Exception as error:
            self.reason, self.failed = _reason(error), True
            return 0

    def plan(self, seeds: int) -> str:
        """What is going to be done, by the budgets."""
        if self.reason:
            return f"{'failed' if self.failed else 'skipped'}, {self.reason}"
        if not (runs := self.left(seeds)):
            return "kept"
        in_full = f"; in full, {self.whole_minutes:g} min, with --long (make: ARGS=--long)"
        whole = in_full if self.minutes < self.whole_minutes else ""
        return f"{runs * self.minutes:g} min{whole}" if self.minutes else "no budget"


def _is_random(cfg: DictConfig) -> bool:
    """Whether the simulation draws random numbers: spikes of the input, or noise."""
    encoder = cfg.get("encode")
    noise = (cfg.simulate.get(f"{name}_noise") for name in ("time", "alpha", "weight"))
    return any(noise) or bool(encoder and issubclass(get_class(encoder._target_), SpikeEncoder))


def run_rows(
    train: Callable[[DictConfig, Sequence[str]], Any],
    preset: DictConfig,
    folder: Path,
    extra: Sequence[str],
    long: bool = False,
    seeds: int = 1,
    fresh: bool = False,
) -> tuple[list[Path], dict[str, str], bool]:
    """Run the unfinished rows by train(config, overrides); rows marked `long` only if `long` is set.

    fresh: finished rows too; each old run is removed right before. Runs of rows and seeds that are not run now are kept, so are
    those that only `long` would run in full. A run that another process is doing is waited for.

    A row's run with its own seed is written to folder/<row>. With seeds > 1 a row that depends on the seed, and whose training
    takes at most SHORT_TRAINING (that of `start` is not counted), is also run with the next seeds, in folder/<row>-seed<seed>.

    Returns the folders of the finished runs, the reason for each missing run, and whether any run failed.
    """
    rows = [_Row(preset, row, extra, folder, long, fresh) for row in preset.rows]
    runs, skipped, failed = [], {}, False
    left = {row.name: row.left_or_failed(seeds) for row in rows}
    minutes = {row.name: row.minutes * left[row.name] for row in rows if not row.reason}
    total = duration(60 * sum(minutes.values()))
    print(f"{sum(map(bool, left.values()))} of {len(rows)} rows to run, {total} by their budgets:")
    for row in rows:
        print(f"  {row.name:{max(map(len, left))}}  {row.plan(seeds)}", flush=True)
    spent = planned = 0.0  # seconds of the runs so far, and their budgets
    for number, row in enumerate(rows, 1):
        head = f"[{number}/{len(rows)}]"
        if row.reason:
            skipped[row.name], failed = row.reason, failed or row.failed
            file = sys.stderr if row.failed else sys.stdout
            print(f"{head} {row.name}: {'failed' if row.failed else 'skipped'}, {row.reason}", file=file, flush=True)
            continue
        position = 0
        while position < row.count(seeds):
            name, cfg, place = row.run(position)
            position += 1
            try:
                with one_process(place):
                    if position == 1:
                        row.keep_in_full(place)
                        cfg = row.cfg
                    if row.fresh:
                        remove_run(place)
                    start, done = time.monotonic(), finished(cfg, place)
                    if not done:
                        print(f"{head} {name}: running, budget {row.minutes:g} min ({shown_path(place)})", flush=True)
                        train(cfg, extra)
                        spent, planned = spent + time.monotonic() - start, planned + 60 * row.minutes
                    metrics = load_runs([place]).iloc[0].to_dict()  # a run whose files cannot be read has failed
            except Exception as error:
                failed, skipped[name] = True, _reason(error)
                print(f"{head} {name}: failed, {skipped[name]}", file=sys.stderr, flush=True)
                if position == 1:
                    break
                continue
            runs.append(place)
            if position == 1:
                row.fit_s = float(metrics.get("time/fit_s", 0.0))
            to_do = row.minutes * row.left(seeds, position)
            to_do += sum(minutes.get(other.name, 0.0) for other in rows[number:])
            then = time_left(60 * to_do * (spent / planned if planned else 1))
            said = (
                f"kept, {numbers_text(metrics)}"
                if done
                else f"{numbers_text(metrics)}, {duration(time.monotonic() - start)}"
            )
            print(f"{head} {name}: {said}{then and f'; {then}'}", flush=True)
        if seeds > 1 and row.once():
            print(f"{head} {row.name}: one seed, {row.once()}", flush=True)
    return runs, skipped, failed


def _reason(error: Exception) -> str:
    """Why a run failed, in one line; the traceback of an unexpected error is printed."""
    line = explain_failure(error)
    if line is None:
        traceback.print_exception(error)
    return line or f"stopped by {type(error).__name__}, see the traceback above"
