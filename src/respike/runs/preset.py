"""Presets of conf/report. Each row of a preset is one run; finished runs are kept."""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from respike.errors import InputError, explain
from respike.report import load_runs
from respike.runs.compose import CONF, compose_run, names
from respike.runs.folder import finished


def load_preset(name: str) -> DictConfig:
    """The preset conf/report/<name>.yaml with its paths. Raises InputError for an unknown name."""
    file = CONF / "report" / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(names("report"))
        raise InputError(f"preset {name}: unknown, choose one of {known}, as in make reproduce-paper PRESET=quick")
    paths = OmegaConf.load(CONF / "paths" / "default.yaml")
    preset = OmegaConf.merge({"paths": paths, "common": []}, OmegaConf.load(file))
    assert isinstance(preset, DictConfig)
    return preset


def row_config(preset: DictConfig, row: DictConfig, extra: Sequence[str], folder: Path) -> DictConfig:
    """The composed config of one row: the preset's common overrides, the row's, then those typed on the command line.

    A row's on_gpu are its overrides on a machine with a GPU. Raises InputError for choices that do not go together.
    """
    chosen = row.on_gpu if row.get("on_gpu") and torch.cuda.is_available() else row.overrides
    cfg = compose_run([*preset.common, *chosen, *extra, f"paths.run={folder}", f"name={row.name}"])
    OmegaConf.set_struct(cfg, False)
    if row.get("title"):
        cfg.paper.title = row.title
    if row.get("budget_min"):
        cfg.budget_min = row.budget_min
    return cfg


def run_rows(
    train: Callable[[DictConfig, Sequence[str]], Any],
    preset: DictConfig,
    folder: Path,
    extra: Sequence[str],
    long: bool = False,
) -> tuple[list[Path], dict[str, str], bool]:
    """Run the unfinished rows by train(config, overrides); rows marked `long` only if `long` is set.

    Returns the folders of the finished runs, the reason for each missing row, and whether any row failed.
    """
    runs, skipped, failed = [], {}, False
    for number, row in enumerate(preset.rows, 1):
        place = folder / row.name
        head = f"[{number}/{len(preset.rows)}] {row.name}"
        if row.get("needs") and not Path(row.needs).is_file():
            skipped[row.name] = (
                f"needs {Path(row.needs).name} of dannyneil/spiking_relu_conversion in the data folder's diehl2015"
            )
            print(f"{head}: skipped, {skipped[row.name]}", flush=True)
            continue
        try:
            cfg = row_config(preset, row, extra, place)
            done = finished(cfg, place)
            if not done and row.get("long") and not long:
                skipped[row.name] = f"takes {cfg.budget_min} minutes, add ARGS=--long"
                print(f"{head}: skipped, {skipped[row.name]}", flush=True)
                continue
            print(f"{head}: {'kept' if done else f'running, budget {cfg.budget_min} min'} ({place})", flush=True)
            if not done:
                train(cfg, extra)
            load_runs([place])  # a row whose files cannot be read has failed
            runs.append(place)
        except Exception as error:
            line = str(error).splitlines()[0] if isinstance(error, HydraException) else explain(error)
            failed = True
            skipped[row.name] = line or f"stopped by {type(error).__name__}, see the traceback above"
            if line is None:
                traceback.print_exc()
            print(f"{head}: failed, {skipped[row.name]}", file=sys.stderr, flush=True)
    return runs, skipped, failed
