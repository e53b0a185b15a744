"""Write the report: a page for the browser, the same in Markdown, its figures and a table for machines."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from respike.errors import InputError
from respike.figures.layers import firing_rates
from respike.figures.style import save
from respike.report import columns, summary, tables
from respike.report.groups import Group, caption, chosen_groups, group_figure, groups_by_network, slug
from respike.report.pictures import Picture, compact, run_pictures
from respike.report.runs import RATES, is_number, with_skipped
from respike.report.verdicts import judge

# Figures of the report start with this prefix, so that a later report can remove them and spare other pictures.
FIGURE_PREFIX = "fig-"
RUN_FILES = (
    "config.yaml",
    "metrics.json",
    "curves.csv",
    "activity.csv",
    "operations.csv",
    "disagreements.csv",
    "provenance.json",
)


def write_report(
    runs: pd.DataFrame,
    skipped: Mapping[str, str],
    out: Path | str,
    title: str,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write out/index.html, out/REPORT.md, out/results.csv and out/fig-*.png, replacing those of an earlier report.

    runs: a frame from `load_runs`, in the order of the table. skipped: row -> reason. out: made when missing. Everything
    is written to a temporary folder and moved in at the end, so a failure leaves the earlier report whole. groups: one
    figure each, {title, runs: [names], text?, table?, gallery?}; without them the runs of one network share a figure.
    Raises InputError when `out` is a file, or a run or a group has wrong entries.
    """
    out = Path(out)
    check_folder(out, "report")
    judged = judge(with_skipped(runs, skipped))
    grouped = groups_by_network(judged) if groups is None else chosen_groups(judged, groups)
    with replaced(out, f"{FIGURE_PREFIX}*.png") as folder:
        sections = _sections(grouped, out, folder)
        shown = [group.gallery for group in grouped]
        sheets = run_sheets(judged, shown, out, folder)
        compact(folder)
        tables.to_csv(judged, folder / "results.csv")
        content = {
            "title": title,
            "rows": [run for _, run in judged.iterrows()],
            "judged": judged,
            "ran": judged[judged["failure"] == ""],
            "sections": sections,
            "sheets": sheets,
            "anchors": {sheet["name"]: sheet["anchor"] for sheet in sheets},
            "summary": summary,
            "columns": columns,
            "results": columns.without_single_seeds(columns.RESULTS, judged),
            "table": tables.to_markdown,
        }
        for template, name in (("REPORT.md.j2", "REPORT.md"), ("index.html.j2", "index.html")):
            (folder / name).write_text(render(template, content), encoding="utf-8")


def check_folder(out: Path, what: str) -> None:
    """Raises InputError when `out` is a file."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the {what}")


def render(template: str, content: Mapping[str, Any]) -> str:
    """The text of a template of this package. A page for the browser does not break the line between a number and its %."""
    html = template.endswith(".html.j2")
    environment = Environment(
        loader=PackageLoader("respike.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = tables.markdown_text
    environment.filters["breakable"] = _breakable
    text = environment.get_template(template).render(content)
    return _with_bound_percents(text) if html else text


def _breakable(text: str) -> Markup:
    """The text for a page, where a line may break behind _, / and ."""
    return Markup(re.sub(r"([_/]|\.(?=[a-z]))", r"\1<wbr/>", str(escape(text))))


def _with_bound_percents(page: str) -> str:
    """The page without breaks between a number and its %, but in tables, whose columns these would widen."""
    parts = re.split(r"(<table.*?</table>)", page, flags=re.DOTALL)
    return "".join(
        part if part.startswith("<table") else re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", part) for part in parts
    )


@contextmanager
def replaced(out: Path, stale: str = "") -> Iterator[Path]:
    """A temporary folder whose files are moved into `out` at the end.

    Earlier files of the pattern `stale` go, if the earlier index.html there names them. Figures move first and index.html last.
    After an error nothing moves.
    """
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    earlier_page = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=out))
    try:
        yield folder
        names = sorted(
            (file.name for file in folder.iterdir()), key=lambda name: (not name.endswith(".png"), name == "index.html")
        )
        for name in names:
            os.replace(folder / name, out / name)
        for earlier in out.glob(stale) if stale else ():
            if earlier.name not in names and f'"{earlier.name}"' in earlier_page:
                earlier.unlink()
    finally:
        shutil.rmtree(folder)


def relative_address(path: Path, out: Path) -> str:
    """The path as a page in `out` links to it."""
    return quote(Path(os.path.relpath(path.resolve(), out.resolve())).as_posix())


def _sections(groups: Sequence[Group], out: Path, folder: Path) -> list[dict[str, Any]]:
    """title, caption; figure: file name, "" for none; pictures of a run that has the group to itself; runs: of its table."""
    sections: list[dict[str, Any]] = []
    taken: list[str] = []
    for group in groups:
        (figure, problem), name = _figure_or_problem(group), ""
        if figure is not None:
            taken.append(slug(group.title, taken))
            name = f"{FIGURE_PREFIX}{taken[-1]}.png"
            save(figure, folder / name)
        pictures = _pictures(Path(str(group.runs.at[group.gallery, "path"])), out) if group.gallery else []
        listed = group.runs if group.table else group.runs[:0]
        section = {"title": group.title, "caption": caption(group) + problem, "figure": name, "pictures": pictures}
        sections.append(section | {"runs": listed, "rows": [run for _, run in listed.iterrows()]})
    return sections


def _figure_or_problem(group: Group) -> tuple[Figure | None, str]:
    """The figure of a group, and why it cannot be drawn: the runs may be anybody's, and one bad curve costs only its figure."""
    try:
        return group_figure(group), ""
    except Exception as error:
        return None, f" The figure could not be drawn: {' '.join(str(error).split())}."


def run_sheets(judged: pd.DataFrame, shown: Sequence[str], out: Path, folder: Path | None) -> list[dict[str, Any]]:
    """The details of each row of a judged frame.

    shown: the rows whose pictures a section shows. folder: where figures of rates are written, None for none.
    """
    sheets: list[dict[str, Any]] = []
    taken: list[str] = []
    for name, run in judged[judged["failure"] == ""].iterrows():
        taken.append(slug(str(name), taken))
        sheet = {
            "name": name,
            "anchor": f"run-{taken[-1]}",
            "reduced": run["reduced"],
            "facts": summary.provenance(run),
            "links": _links(run["path"], out) + _seeds(run["members"], out),
            "figure": _rates_figure(run["rates"], folder / f"{FIGURE_PREFIX}rates-{taken[-1]}.png") if folder else "",
            "pictures": [] if name in shown else _pictures(run["path"], out),
        }
        sheets.append(sheet)
    return sheets


def _pictures(path: Path, out: Path) -> list[tuple[str, Picture]]:
    """(address, picture) of the figures of a run."""
    return [(relative_address(path / "figures" / picture.file, out), picture) for picture in run_pictures(path)]


def _rates_figure(rates: Mapping[str, Any], path: Path) -> str:
    """Draw the firing rates of the layers; returns the file's name, "" where none were measured."""
    for prefix, unit in zip(RATES, ("Hz", "spikes per step"), strict=True):
        layers = {
            name.removeprefix(prefix): value
            for name, value in rates.items()
            if name.startswith(prefix) and is_number(value)
        }
        if layers:
            save(firing_rates(layers, unit), path)
            return path.name
    return ""


def _links(path: Path, out: Path) -> list[tuple[str, str]]:
    """The run directory, its files and its own figures: (text, address relative to the page)."""
    files = [path / name for name in RUN_FILES] + sorted((path / "figures").glob("*.*"))
    found = [(file.relative_to(path).as_posix(), relative_address(file, out)) for file in files if file.is_file()]
    return [("run directory", relative_address(path, out) + "/"), *found]


def _seeds(members: Sequence[tuple[Any, Path]], out: Path) -> list[tuple[str, str]]:
    """The run directory of every further seed of a row."""
    return [(f"seed {seed}", relative_address(path, out) + "/") for seed, path in members[1:]]
