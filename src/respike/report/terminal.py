"""What runs say on the terminal: a run at its end, a row or a job in one line, the jobs of a sweep in a table."""

import math
import os
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from respike.errors import InputError
from respike.report.columns import NOTHING, duration, latency, metric, percent, published, text_of
from respike.report.comparison.compare import Comparison, chosen_columns, compare, sorted_points
from respike.report.comparison.latency import few_steps_text
from respike.report.comparison.listing import to_text as points_text
from respike.report.runs import frame_of, is_number, load_runs, read_run
from respike.report.verdicts import judge

ACCURACIES = {"ann/test_acc": "ReLU", "snn/test_acc": "spiking", "snn/agreement": "agreement"}

JOB_COLUMNS = ("snn/test_acc", "snn/agreement", "snn/time_to_1pct_ms", "ttfs/latency", "snn/spikes_per_image")


def terminal_width() -> int:
    """Characters of a line of the terminal, at least 40; 80 where the output is no terminal."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def shown_path(path: Path) -> str:
    """The path, relative to the working directory if it is below it."""
    path = path.absolute()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def run_text(path: Path, width: int) -> str:
    """What the finished run in a folder measured, a line per number; numbers that it does not have are left out.

    Raises InputError when a file of the run cannot be read.
    """
    run = judge(frame_of([read_run(path)])).iloc[0]
    lines = {
        "ReLU network": _with_published(run, "ann/test_acc"),
        "spiking network": _with_published(run, "snn/test_acc"),
        "agreement": _with_published(run, "snn/agreement"),
        "latency" if is_number(run.get("ttfs/latency")) else "within 1 point": latency(run),
        "after steps": _after_steps(run["curve"]),
        "read-out": _read_out(run),
        "spikes per image": metric("snn/spikes_per_image").cell(run),
        "verdict": f"none: {run['failure']}" if run["failure"] else run["verdict"],
        "differs in": "; ".join(run["departs"]),
        "time with training": metric("time/total_s").cell(run),
        "folder": shown_path(path),
    }
    heading = "; ".join(
        part for part in (run["name"], text_of("method")(run), run["data"]) if part not in ("", NOTHING)
    )
    facts = [_fact(name, cell, width) for name, cell in lines.items() if cell not in ("", NOTHING)]
    return "\n".join([textwrap.fill(heading, width, break_on_hyphens=False), *facts])


def numbers_text(metrics: Mapping[Any, Any]) -> str:
    """The key numbers of a run in a few words: "ReLU 98.70 %, spiking 98.68 %, agreement 99.80 %"."""
    measured = [(words, metrics.get(name)) for name, words in ACCURACIES.items()]
    return ", ".join(f"{words} {percent(value)}" for words, value in measured if is_number(value))


def time_left(seconds: float) -> str:
    """An estimate of the time left: "about 4.2 min left"; "" if it is unknown or nothing is left."""
    return f"about {duration(seconds)} left" if math.isfinite(seconds) and seconds > 0 else ""


def jobs_text(folders: Sequence[Path], width: int) -> str:
    """The table of the finished jobs of a sweep, sorted as a comparison is; "" where nothing can be compared."""
    try:
        comparison = compare(load_runs(folders))
    except InputError:  # fewer than two jobs
        return ""
    if table := few_steps_text(comparison, width):
        return table
    names = [name for name in JOB_COLUMNS if comparison.has(name)] or ["ann/test_acc"]
    return comparison_text(comparison, "", names, width, len(folders))


def comparison_text(comparison: Comparison, sort: str, names: Sequence[str], width: int, most: int = 20) -> str:
    """The table of the first `most` compared points and its notes. sort, names: see `sorted_points`, `chosen_columns`.

    Where neither is given and accuracies in few steps are compared, their tables instead.
    """
    points, columns = sorted_points(comparison, sort), chosen_columns(comparison, names)
    table = "" if sort or names else few_steps_text(comparison, width)
    table = table or points_text(comparison, points, columns, width, most)
    notes = (f"note: {note}" for note in comparison.notes)
    return "\n".join(
        [table, *(textwrap.fill(note, width, subsequent_indent="    ", break_on_hyphens=False) for note in notes)]
    )


def _after_steps(curve: pd.DataFrame) -> str:
    """The accuracy after 1, 2, 4, 8, ... steps and the last: "1: 9.8, 2: 31.5, 4: 88.1 %"."""
    if not {"step", "acc"} <= set(curve.columns):
        return NOTHING
    curve = curve.dropna(subset=["acc"])
    if curve.empty:
        return NOTHING
    steps = curve["step"].astype(int)
    shown = curve[((steps & (steps - 1)) == 0) | (steps == steps.max())]
    cells = (f"{step:.0f}: {100 * acc:.1f}" for step, acc in zip(shown["step"], shown["acc"], strict=True))
    return ", ".join(cells) + " %"


def _read_out(run: pd.Series) -> str:
    """T and t0 of a delayed read-out; nothing of any other."""
    unread = run.get("snn/read_from")
    return (
        f"T = {run['snn/steps']:.0f} steps, the first t0 = {unread:.0f} left out"
        if is_number(unread) and unread
        else ""
    )


def _with_published(run: pd.Series, key: str) -> str:
    ours, theirs = metric(key).cell(run), published(key)(run)
    if NOTHING in (ours, theirs):
        return ours
    apart = ", not comparable" if theirs.startswith("(") else ""
    return f"{ours}  (published {theirs.strip('()')}{apart})"


def _fact(name: str, cell: str, width: int) -> str:
    return textwrap.fill(
        cell, width, initial_indent=f"  {name:<19}", subsequent_indent=" " * 21,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
