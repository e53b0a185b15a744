"""Runs that are equal but for the seed, as one row: means, and the values behind them.

Columns are added: seeds, how many runs a row stands for; over_seeds, {metric: its values, lowest seed first}, and lacks,
{metric: the runs without it} of metrics that some of them have, both empty for a single run. The row of several seeds has the
name, the path and the settings of the run with the lowest seed; members has (seed, path) of all.
"""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from respike.report.runs import FACTS, is_missing, is_number, labels, metric_names
from respike.runs.protocol import NEUTRAL

# Settings that say where a run lies and how it was started: of the neutral ones those that choose no images, weights or title.
CHOOSING = (
    "experiment", "sweep_name", "paper.title", "data.train_size", "data.test_size", "data.dataset.train_files",
    "data.dataset.test_files", "model.path", "callbacks.convert.calibration_seed", "callbacks.train_accuracy",
)  # fmt: skip
ELSEWHERE = tuple(key for key in NEUTRAL if key not in CHOOSING)
# Facts of which a row of several seeds has those of all of them, with BETWEEN in between.
JOINED = ("provenance.git_commit", "provenance.processor", "provenance.started")
BETWEEN = "; "


def merge_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one row for runs that have the same settings and facts and different seeds, at the place of the first.

    Runs of the same settings and the same seed stay apart: they are no independent samples.
    """
    rows: list[pd.Series] = []
    groups: dict[Hashable, list[pd.Series]] = {}
    for label, run in frame.iterrows():
        groups.setdefault((label,) if run["failure"] else _without_seeds(run), []).append(run)
    for runs in [alike for group in groups.values() for alike in _by_seeds(group)]:
        seeds = [run.get("cfg.seed") for run in runs]
        several = len(runs) > 1 and all(map(is_number, seeds)) and len(set(seeds)) == len(seeds)
        rows += [_merged(runs)] if several else [_single(run) for run in runs]
    merged = pd.DataFrame(rows, dtype=object) if rows else frame.assign(seeds=1, over_seeds=[], lacks=[], members=[])
    return merged.set_axis(labels(merged), axis="index")


def _without_seeds(run: pd.Series) -> Hashable:
    """The settings and facts, without seeds."""
    found = []
    for name, value in zip(run.index, run, strict=True):
        key = str(name).removeprefix("cfg.")
        if key == name or is_missing(value) or any(key == other or key.startswith(f"{other}.") for other in ELSEWHERE):
            continue
        if not _is_seed(name):
            found.append((key, repr(float(value) if is_number(value) else value)))
    return (*found, *(str(run.get(fact)) for fact in FACTS))


def _is_seed(name: str) -> bool:
    return str(name).startswith("cfg.") and str(name).split(".")[-1] == "seed"


def _by_seeds(runs: list[pd.Series]) -> list[list[pd.Series]]:
    """The runs in groups whose other seeds, as simulate.seed, are equal or follow the seed of the run."""
    names = [name for name in runs[0].index if _is_seed(name) and len({repr(run.get(name)) for run in runs}) > 1]
    groups: dict[Hashable, list[pd.Series]] = {}
    for run in runs:
        values = (run.get(name) for name in names)
        marks = tuple("the run's" if value == run.get("cfg.seed") else repr(value) for value in values)
        groups.setdefault(marks, []).append(run)
    return list(groups.values())


def _single(run: pd.Series) -> pd.Series:
    return pd.concat([run, pd.Series({"seeds": 1, "over_seeds": {}, "lacks": {}, "members": ()}, dtype=object)]).rename(
        run.name
    )


def _merged(runs: list[pd.Series]) -> pd.Series:
    runs = sorted(runs, key=lambda run: run["cfg.seed"])
    first, seeds = runs[0].copy(), ", ".join(str(run["cfg.seed"]) for run in runs)
    values: dict[str, list[Any]] = {
        name: [run.get(name) for run in runs] for name in metric_names(runs[0].to_frame().T)
    }
    for name, found in values.items():  # the number of one seed would stand among means
        first[name] = float(np.mean(found)) if all(map(is_number, found)) else math.nan
    lacks = {
        name: [run["path"] for run, value in zip(runs, found, strict=True) if not is_number(value)]
        for name, found in values.items()
        if any(map(is_number, found)) and not all(map(is_number, found))
    }
    values = {name: found for name, found in values.items() if all(map(is_number, found))}
    first["rates"] = {name: first.get(name, value) for name, value in first["rates"].items()}
    first["curve"] = _mean_curve([run["curve"] for run in runs])
    first["cfg.seed"] = first["provenance.seed"] = seeds
    for name in JOINED:
        first[name] = BETWEEN.join(dict.fromkeys(str(run.get(name)) for run in runs if not is_missing(run.get(name))))
    more: dict[str, Any] = {"seeds": len(runs), "over_seeds": values, "lacks": lacks}
    more["members"] = tuple((run["cfg.seed"], run["path"]) for run in runs)
    return pd.concat([first, pd.Series(more, dtype=object)]).rename(first.name)


def _mean_curve(curves: list[pd.DataFrame]) -> pd.DataFrame:
    """The mean of curves of the same steps, with acc_low and acc_high, the lowest and the highest accuracy; else the first."""
    if any("step" not in curve or list(curve["step"]) != list(curves[0]["step"]) for curve in curves):
        return curves[0]
    by_step = pd.concat(curves).groupby("step", as_index=False)
    return by_step.mean().assign(acc_low=by_step["acc"].min()["acc"], acc_high=by_step["acc"].max()["acc"])
