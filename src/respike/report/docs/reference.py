"""The committed results, and how the pages write numbers and sentences."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from respike.errors import InputError
from respike.report.columns import Column
from respike.report.decision import Decision, decisions, default_model
from respike.report.runs import load_runs
from respike.report.tables import to_markdown
from respike.report.verdicts import judge
from respike.runs.old_names import new_key
from respike.system.files import read_csv

WIDTH = 120  # characters of a line of the pages


@dataclass(frozen=True)
class Reference:
    """The committed results in a folder: runs, bench, sweeps and energy."""

    folder: Path

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The judged runs."""
        return judge(load_runs([self.folder / "runs"]))

    @cached_property
    def decisions(self) -> list[Decision]:
        """What is known of each network whose operations were counted by layer."""
        return decisions(load_runs([self.folder / "energy"]), default_model())

    def run(self, name: str) -> pd.Series:
        """The judged run of that name. Raises InputError without it."""
        if name not in self.runs.index:
            raise InputError(f"{self.folder / 'runs'}: has no run {name}, of which report/docs tells")
        return self.runs.loc[[name]].iloc[0]

    def table(self, names: Sequence[str], columns: Sequence[Column]) -> str:
        """A line for each named run."""
        if missing := [name for name in names if name not in self.runs.index]:
            raise InputError(
                f"{self.folder / 'runs'}: has no run {', '.join(missing)}; name the runs of a table in report/docs"
            )
        return to_markdown(self.runs.loc[list(names)], columns)

    def bench(self, name: str = "") -> pd.DataFrame:
        """Rows of the benchmark that were measured, with `network`: the workload and its steps."""
        rows = read_csv(self.folder / "bench" / name / "bench.csv")
        rows = rows[rows["reason"].isna()]
        return rows.assign(network=rows["workload"] + ", " + rows["steps"].map("{:.0f}".format) + " steps")

    def sweep(self, name: str) -> pd.DataFrame:
        """The runs of a sweep; settings under their present names, `norm`: the normalization."""
        rows = read_csv(self.folder / "sweeps" / name / "comparison.csv").rename(columns=new_key).copy()  # one block
        return rows.assign(norm=rows["convert"].str.rpartition(".")[2]) if "convert" in rows else rows


def share(fraction: float) -> str:
    """0.9999991 -> "99.9999 %": rounded down, so that 100 % means all."""
    millionths = 1_000_000 if fraction >= 1 else min(math.floor(round(1e6 * fraction, 3)), 999_999)
    return f"{millionths / 1e4:.6g} %"


def bullets(lines: Sequence[str]) -> str:
    """Lines as bullets of the pages' width."""
    return "\n".join(
        textwrap.fill(f"- {line}", WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def sentence(text: str) -> str:
    """Text in lines of the pages' width."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
