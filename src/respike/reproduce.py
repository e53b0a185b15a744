"""Every experiment of a preset, then the report.

    python -m respike.reproduce paper
    python -m respike.reproduce quick logger=csv

Finished rows are kept: after an interruption the same command goes on where it was.
"""

import argparse
import logging
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from respike.errors import InputError, explain
from respike.report import judge, load_runs, to_text, write_report
from respike.report.__main__ import terminal_width
from respike.report.pictures import compact
from respike.report.runs import with_skipped
from respike.runs.folder import finished
from respike.train import CONF, train

KEPT = (
    "config.yaml",
    "metrics.json",
    "curves.csv",
    "activity.csv",
    "image_rates.csv",
    "training.csv",
    "disagreements.csv",
    "provenance.json",
    "figures/*.png",
    "figures/*.gif",
)
SMALL = 200_000  # bytes: a network up to here is committed with its results


def load_preset(name: str) -> DictConfig:
    """The preset conf/report/<name>.yaml with its paths. Raises InputError for an unknown name."""
    file = CONF / "report" / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise InputError(f"preset {name}: unknown, there are {known}; as in make reproduce-paper PRESET=quick")
    paths = OmegaConf.load(CONF / "paths" / "default.yaml")
    return OmegaConf.merge({"paths": paths, "common": []}, OmegaConf.load(file))


def row_config(preset: DictConfig, row: DictConfig, extra: Sequence[str], folder: Path) -> DictConfig:
    """The composed config of one row: the preset's common overrides, the row's, then those typed on the command line.

    A row's on_gpu are its overrides where there is a GPU.
    """
    chosen = row.on_gpu if row.get("on_gpu") and torch.cuda.is_available() else row.overrides
    overrides = [*preset.common, *chosen, *extra, f"paths.run={folder}", f"name={row.name}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=overrides)
    OmegaConf.set_struct(cfg, False)
    if row.get("title"):
        cfg.paper.title = row.title
    if row.get("budget_min"):
        cfg.budget_min = row.budget_min
    return cfg


def run_rows(
    preset: DictConfig, folder: Path, extra: Sequence[str], long: bool = False
) -> tuple[list[Path], dict[str, str], bool]:
    """Run what is not finished; rows marked `long` only where that is asked for.

    Returns the directories of the finished runs, why others are missing, and whether any broke unexpectedly.
    """
    runs, skipped, broken = [], {}, False
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
            load_runs([place])  # a row whose files cannot be read failed
            runs.append(place)
        except Exception as error:
            line = str(error).splitlines()[0] if isinstance(error, HydraException) else explain(error)
            broken = True
            skipped[row.name] = line or f"stopped by {type(error).__name__}, see the traceback above"
            if line is None:
                traceback.print_exc()
            print(f"{head}: failed, {skipped[row.name]}", file=sys.stderr, flush=True)
    return runs, skipped, broken


def publish(runs: Sequence[Path], place: Path) -> list[Path]:
    """Copy results, without logs and large networks, to place/runs, for keeping in the repository; returns the copies."""
    for run in runs:
        if (place / "runs" / run.name / "provenance.json").is_file():
            shutil.rmtree(place / "runs" / run.name)
        networks = [path for path in run.glob("checkpoints/*.pt") if path.stat().st_size < SMALL]
        for path in [*networks, *(file for pattern in KEPT for file in run.glob(pattern))]:
            copy = place / "runs" / run.name / path.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [place / "runs" / run.name for run in runs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a preset; returns the exit status: 1 where a row failed, 2 where nothing could be done."""
    parser = argparse.ArgumentParser(prog="python -m respike.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="paper", help="a file of conf/report (%(default)s)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every row, as in logger=csv")
    parser.add_argument("--fresh", action="store_true", help="run rows again that are finished")
    parser.add_argument("--long", action="store_true", help="also rows of an hour or more")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="also copy results and report there")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        preset: Any = load_preset(given.preset)
        folder = Path(preset.paths.outputs, given.preset)
        if given.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        runs, skipped, broken = run_rows(preset, folder, given.overrides, given.long)
        groups = OmegaConf.to_container(preset.groups)
        write_report(load_runs(runs), skipped, Path(preset.paths.outputs, "report"), preset.title, groups)
        if given.publish:
            write_report(load_runs(publish(runs, given.publish)), skipped, given.publish, preset.title, groups)
            compact(given.publish)
    except InputError as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nrespike: interrupted; finished rows and epochs are kept, the same command goes on", file=sys.stderr)
        return 130
    print(to_text(judge(with_skipped(load_runs(runs), skipped)), terminal_width()))
    print(f"\nreport: {Path(preset.paths.outputs, 'report', 'index.html')}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
