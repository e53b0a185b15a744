"""The table of compared points, for the terminal, the page and as CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from respike.report.columns import Column
from respike.report.comparison.compare import Comparison
from respike.report.comparison.varied import DATA, MOST_NAMED, settings_of
from respike.report.runs import DEPARTURES, is_missing, metric_names
from respike.report.tables import text_table
from respike.system.files import write_csv

BEST = "best"


def point_table(comparison: Comparison, points: Sequence[int], columns: Sequence[Column]) -> pd.DataFrame:
    """The cells as texts, a row per point: settings, data set, number of seeds, means with half their 95 % interval, best."""
    chosen = comparison.points.loc[list(points)]
    table = {setting.label: chosen[setting.key].map(setting.shown) for setting in comparison.settings}
    if DATA not in {setting.key for setting in comparison.settings}:
        table["data set"] = chosen[DATA].astype(str)
    if comparison.seeds:
        table[comparison.repeated] = chosen["runs"].map(str)
    for column in columns:
        table[column.heading] = pd.Series([_mean(comparison, point, column) for point in points], chosen.index)
    table[BEST] = chosen["best"].map({True: "●", False: ""})
    return pd.DataFrame(table, dtype=object)


def sort_values(comparison: Comparison, points: Sequence[int], columns: Sequence[Column]) -> pd.DataFrame:
    """The values by which the page sorts each column of `point_table`, "" where there is none."""
    chosen = comparison.points.loc[list(points)]
    table = point_table(comparison, points, columns)
    values = {setting.label: chosen[setting.key].map(setting.code) for setting in comparison.settings}
    values |= {column.heading: comparison.means.loc[chosen.index, column.key] for column in columns}
    values |= {BEST: chosen["best"].astype(int)}
    found = table.assign(**values).astype(object)
    return found.where(found.notna(), "")


def to_text(
    comparison: Comparison, points: Sequence[int], columns: Sequence[Column], width: int, most: int = 20
) -> str:
    """An aligned table of the first `most` points for a terminal of `width` characters.

    Of too many settings for the terminal, names of runs stand in their place.
    """
    table = point_table(comparison, points[:most], columns)
    if len(comparison.settings) > MOST_NAMED:
        table = table.drop(columns=[setting.label for setting in comparison.settings if setting.key != DATA])
        table.insert(0, "run", [comparison.name(point) for point in points[:most]])
    more = [f"... and {len(points) - most} more in comparison.csv"] if len(points) > most else []
    return "\n".join([text_table(table, width, left=["run"]), *more])


def to_csv(comparison: Comparison, points: Sequence[int], path: Path, out: Path) -> None:
    """A line per run, point after point: settings as they are in the config, every metric, and the run's directory.

    A directory below `out`, the folder of the page, as that of a published run, is written relative to it.
    """
    order = {point: i for i, point in enumerate(points)}
    runs = comparison.runs.sort_values("point", key=lambda column: column.map(order), kind="stable")
    settings, flat = (*comparison.settings, *comparison.seeds), settings_of(runs)
    columns = {setting.typed: flat[setting.key] for setting in settings}
    columns |= {
        DATA: runs["data"],
        "reduced": runs["reduced"],
        "best_trade_off": runs["point"].map(comparison.points["best"]).astype(int),
    }
    columns |= {name: runs[name] for name in dict.fromkeys([comparison.latency.key, *metric_names(runs)])}
    columns |= {name: runs[name] for name in DEPARTURES}
    columns |= {
        "changed": runs["changed"],
        "test_images": runs["test_images"],
        "run": runs["path"].map(lambda run: _below(run, out)),
    }
    table = pd.DataFrame(columns)
    write_csv(path, table)


def _below(run: Path, out: Path) -> str:
    whole, folder = run.resolve(), out.resolve()
    return whole.relative_to(folder).as_posix() if run.is_dir() and whole.is_relative_to(folder) else str(run)


def means_to_csv(comparison: Comparison, points: Sequence[int], columns: Sequence[Column], path: Path) -> None:
    """A line per point: its settings, the number of seeds or trials, each metric's mean and half its 95 % interval."""
    chosen = comparison.points.loc[list(points)]
    table = chosen[[s.key for s in comparison.settings]].rename(columns={s.key: s.typed for s in comparison.settings})
    table[comparison.repeated] = chosen["runs"]
    for column in columns:
        table[column.key] = comparison.means[column.key]
        table[f"{column.key} ±"] = comparison.halves[column.key]
    write_csv(path, table.assign(best_trade_off=chosen["best"].astype(int)))


def _mean(comparison: Comparison, point: int, column: Column) -> str:
    mean, half = (frame.at[point, column.key] for frame in (comparison.means, comparison.halves))
    return column.text(mean) + ("" if is_missing(half) else f" ± {column.half_text(half)}")


def cells(texts: pd.DataFrame, values: pd.DataFrame) -> list[list[tuple[str, Any]]]:
    """(text, value to sort by) of each cell, row by row."""
    return [list(zip(*pair, strict=True)) for pair in zip(texts.to_numpy(), values.to_numpy(), strict=True)]
