"""Write the report: a page for the browser, the same in Markdown, its figures and a table for machines."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from respike.errors import InputError
from respike.figures.layers import firing_rates
from respike.figures.style import save
from respike.report import columns, render, summary
from respike.report.collect import Run
from respike.report.groups import Group, caption, chosen_groups, group_figure, groups_by_network, slug
from respike.report.pictures import run_pictures
from respike.report.table import Row, rows

# Figures of the report carry this prefix, so that those of an earlier one can be told from a person's own pictures.
FIGURE_PREFIX = "fig-"
RUN_FILES = ("config.yaml", "metrics.json", "curves.csv", "activity.csv", "disagreements.csv", "provenance.json")


@dataclass(frozen=True)
class Section:
    """A group on the page: title, caption, the file name of its figure, "" where there is none, and the pictures
    (address, alt) of a run that has the group to itself, and the rows of its table, none where it has no table."""

    title: str
    caption: str
    figure: str
    pictures: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A run on the page: row, anchor, links (text, relative address), facts (what, value), figure of rates or "",
    pictures (address, alt) that no section shows."""

    row: Row
    anchor: str
    links: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    figure: str
    pictures: tuple[tuple[str, str], ...]


def write_report(
    runs: Sequence[Run],
    skipped: Mapping[str, str],
    out: Path | str,
    title: str,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write out/index.html, out/REPORT.md, out/results.csv and out/fig-*.png, replacing those of an earlier report.

    runs: in the order of the table. skipped: row -> reason. out: made when missing; everything is written beside it
    first and then moved in, so a failure leaves the earlier report whole. groups: one figure each, {title, runs:
    [names], text?, table?}; without them the runs of one network share a figure.
    Raises InputError when `out` is a file, or a run or a group cannot be read as a row.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the report")
    made = rows(runs, skipped)
    grouped = groups_by_network(made) if groups is None else chosen_groups(made, groups)
    out.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.resolve().parent))
    try:
        sections = _sections(grouped, out, aside)
        sheets = _sheets(made, [group.rows[0] for group in grouped if len(group.rows) == 1], out, aside)
        render.to_csv(made, aside / "results.csv")
        for template, name in (("REPORT.md.j2", "REPORT.md"), ("index.html.j2", "index.html")):
            (aside / name).write_text(_page(template, title, made, sections, sheets), encoding="utf-8")
        move_in(aside, out, FIGURE_PREFIX)
    finally:
        shutil.rmtree(aside)


def _sections(groups: Sequence[Group], out: Path, folder: Path) -> list[Section]:
    sections, taken = [], []
    for group in groups:
        figure, name = group_figure(group), ""
        if figure is not None:
            taken.append(slug(group.title, taken))
            name = f"{FIGURE_PREFIX}{taken[-1]}.png"
            save(figure, folder / name)
        pictures = _pictures(group.rows[0].run, out) if len(group.rows) == 1 else ()
        beside = group.rows if group.table else ()
        sections.append(Section(group.title, caption(group), name, pictures, beside))
    return sections


def _sheets(made: Sequence[Row], alone: Sequence[Row], out: Path, folder: Path) -> list[Sheet]:
    """alone: rows whose pictures their section shows."""
    sheets, taken = [], []
    for row in made:
        if row.run is None:
            continue
        taken.append(slug(row.name, taken))
        figure = _rates_figure(row.run, folder / f"{FIGURE_PREFIX}rates-{taken[-1]}.png")
        links = tuple(_links(row.run, out))
        pictures = () if row in alone else _pictures(row.run, out)
        sheets.append(Sheet(row, f"run-{taken[-1]}", links, tuple(summary.provenance(row)), figure, pictures))
    return sheets


def _pictures(run: Run, out: Path) -> tuple[tuple[str, str], ...]:
    return tuple((relative_address(picture.path, out), picture.alt) for picture in run_pictures(run))


def _rates_figure(run: Run, path: Path) -> str:
    for family, unit in (("snn/rate/", "Hz"), ("snn/activity/", "spikes per step")):
        rates = run.family(family)
        if rates:
            save(firing_rates(rates, unit), path)
            return path.name
    return ""


def _links(run: Run, out: Path) -> list[tuple[str, str]]:
    """The run directory, its files and its own figures: (text, address relative to the page)."""
    files = [run.path / name for name in RUN_FILES] + sorted((run.path / "figures").glob("*.*"))
    found = [(file.relative_to(run.path).as_posix(), relative_address(file, out)) for file in files if file.is_file()]
    return [("run directory", relative_address(run.path, out) + "/"), *found]


def relative_address(path: Path, out: Path) -> str:
    """The path as a page in `out` links to it."""
    return quote(Path(os.path.relpath(path.resolve(), out.resolve())).as_posix())


def _page(template: str, title: str, made: list[Row], sections: list[Section], sheets: list[Sheet]) -> str:
    environment = Environment(
        loader=PackageLoader("respike.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = render.markdown_text
    return environment.get_template(template).render(
        title=title,
        verdicts=summary.verdicts(made),
        circumstances=summary.circumstances(made),
        rule=summary.VERDICT_RULE,
        energy=summary.energy(made),
        rows=made,
        ran=[sheet.row for sheet in sheets],
        main=columns.MAIN,
        details=columns.DETAILS,
        compared=columns.COMPARED,
        table=render.to_markdown,
        sections=sections,
        sheets=sheets,
        anchors={sheet.row.name: sheet.anchor for sheet in sheets},
    )


def move_in(aside: Path, out: Path, prefix: str) -> None:
    """Figures first and the page last, so that no page ever links to a figure that is not there.

    prefix: of the figures; those of an earlier page are removed.
    """
    names = sorted((file.name for file in aside.iterdir()), key=lambda name: (name == "index.html", name))
    for name in names:
        os.replace(aside / name, out / name)
    for stale in out.glob(f"{prefix}*.png"):
        if stale.name not in names:
            stale.unlink()
