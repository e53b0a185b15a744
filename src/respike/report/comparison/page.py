"""Write a comparison: a page with pictures and a sortable table, the pictures, and the numbers as CSV."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from respike.figures.curves import accuracy_in_few_steps
from respike.figures.style import save
from respike.report.columns import Column, metric
from respike.report.comparison.compare import Comparison, chosen_columns, sorted_points
from respike.report.comparison.curves import (
    MOST_LINES,
    OWN_FIGURE,
    ZETA,
    curve_clock,
    effect_figure,
    noise_figure,
    overlaid_curves,
    zeta_figure,
)
from respike.report.comparison.latency import (
    Network,
    latency_means,
    latency_networks,
    latency_table,
    ordered_methods,
)
from respike.report.comparison.listing import cells, means_to_csv, point_table, sort_values, to_csv
from respike.report.comparison.maps import forms_grid, heat_map
from respike.report.comparison.trade_figure import trade_off_figure
from respike.report.comparison.varied import Setting
from respike.report.groups import slug
from respike.report.page import check_folder, relative_address, render, replaced, run_sheets
from respike.report.pictures import Picture, compact
from respike.report.verdicts import judge
from respike.system.files import write_csv

PREFIX = "compare-"
Drawn = tuple[Picture, Figure | None]


def write_comparison(
    comparison: Comparison,
    out: Path | str,
    title: str,
    sort: str = "",
    columns: Sequence[str] = (),
    small: bool = False,
) -> list[Path]:
    """Write out/index.html, runs.html, comparison.csv, means.csv, latency.csv where there is one, and out/compare-*.png.

    runs.html has the facts and files of each run, comparison.csv a line per run, means.csv a line per point.
    sort, columns: see `sorted_points` and `chosen_columns`. small: pictures are compact, see `compact`. Everything is written
    to a temporary folder and moved in at the end, so a failure leaves an earlier comparison whole. Returns the files. Raises
    InputError when `out` is a file, or a name to sort by or to show is unknown.
    """
    out = Path(out)
    check_folder(out, "comparison")
    shown, points = chosen_columns(comparison, columns), sorted_points(comparison, sort)
    with replaced(out, f"{PREFIX}*.png") as folder:
        networks = latency_networks(comparison)
        pictures = [] if networks else _pictures(comparison, folder)  # of T, those of the networks show more
        to_csv(comparison, points, folder / "comparison.csv", out)
        means_to_csv(comparison, points, shown, folder / "means.csv")
        sections = _latency(networks, folder)
        content = _content(comparison, points, shown, out)
        content |= {"title": title, "pictures": pictures, "networks": sections}
        for template, name in (("runs.html.j2", "runs.html"), ("comparison.html.j2", "index.html")):
            (folder / name).write_text(render(template, content), encoding="utf-8")
        if small:
            compact(folder)
        written = [out / file.name for file in folder.iterdir()]
    return sorted(written)


def _content(comparison: Comparison, points: Sequence[int], shown: Sequence[Column], out: Path) -> dict:
    table = point_table(comparison, points, shown)
    local = [run for _, run in comparison.runs.iterrows() if run["path"].is_dir()]
    rows = pd.concat([judge(run.to_frame().T) for run in local]) if local else comparison.runs[:0]
    rows = rows.set_axis([run.name for run in local], axis="index")
    sheets = run_sheets(rows, (), out, None)
    pages = {rows.at[sheet["name"], "path"]: f"runs.html#{sheet['anchor']}" for sheet in sheets}
    pages = {run["path"]: pages.get(run["path"], relative_address(run["path"], out) + "/") for run in local}
    links = {
        point: [("/".join(p.parts[-2:]), pages[p]) for p in runs["path"] if p in pages]
        for point, runs in comparison.runs.groupby("point")
    }
    return {
        "comparison": comparison,
        "sheets": sheets,
        "headings": list(table),
        "rows": list(
            zip(cells(table, sort_values(comparison, points, shown)), [links[point] for point in points], strict=True)
        ),
    }


def _latency(networks: Sequence[Network], folder: Path) -> list[dict]:
    """For each network: title, said, figure (the name of its file, "" for none) and table; latency.csv has the numbers."""
    sections: list[dict] = []
    for network in networks:
        anchor = slug(network.title, [section["slug"] for section in sections])
        figure = f"{PREFIX}latency-{anchor}.png" if network.has_figure else ""
        if figure:
            title = f"{network.title}\n{network.said}"
            relu = network.relu_name, network.relu
            save(
                accuracy_in_few_steps(network.rows, ordered_methods(network), network.published, relu, title),
                folder / figure,
            )
        table = latency_table(network)
        table.columns = table.columns.str.replace(" = ", "\u00a0=\u00a0")  # headings do not break there
        sections.append(
            {
                "title": network.title, "said": network.said, "slug": anchor, "figure": figure, "table": table,
                "relu": f"{network.relu_name}: {network.relu:.2f} %", "late": network.late,
                "each": bool(network.rows["each_T"].any()),
                "several": network.rows.duplicated(["method", "steps"]).any(),
            }
        )  # fmt: skip
    if networks:
        write_csv(folder / "latency.csv", pd.concat([latency_means(network) for network in networks]))
    return sections


def _pictures(comparison: Comparison, folder: Path) -> list[Picture]:
    """Draw all figures that the settings allow; returns those that were drawn."""
    drawn = [
        *_maps(comparison),
        *_effects(comparison),
        *_spike_times(comparison),
        _trade_off(comparison),
        _curves(comparison),
    ]
    for picture, figure in drawn:
        if figure is not None:
            save(figure, folder / picture.file)
    return [picture for picture, figure in drawn if figure is not None]


def _trade_off(comparison: Comparison) -> Drawn:
    picture = Picture(
        f"{PREFIX}trade-off.png",
        "Each point is one choice of settings. Ringed and numbered: no other choice is at least as accurate, as fast and "
        "as frugal and better in one of them. Settings under half of the best accuracy are left out.",
        "Accuracy against latency against energy",
    )
    return picture, trade_off_figure(comparison)


def _curves(comparison: Comparison) -> Drawn:
    picture = Picture(
        f"{PREFIX}curves.png",
        f"Bands are the 95 % interval of the mean over {comparison.repeated}, where there are several.",
        f"Accuracy over simulated {'steps' if curve_clock(comparison) == 'step' else 'time'}",
    )
    return picture, overlaid_curves(comparison)


def _spike_times(comparison: Comparison) -> list[Drawn]:
    margin = Picture(
        f"{PREFIX}zeta.png",
        "A layer's interval lasts (1 + zeta) times its largest activation. Proved: the bound shows, without sorting, that "
        "the neuron fires after its last input, and therefore as the ReLU network computes.",
        "Latency and exactness for each margin zeta",
    )
    noise = Picture(
        f"{PREFIX}noise.png",
        "Deviations are in input intervals for spike times, and relative for the drive alpha and for weights.",
        "Accuracy under noise",
    )
    return [(margin, zeta_figure(comparison)), (noise, noise_figure(comparison))]


def _mapped(comparison: Comparison) -> list[Column]:
    wanted = [metric("snn/test_acc"), comparison.latency, metric("snn/spikes_per_image")]
    return [column for column in wanted if comparison.has(column.key)]


def _axes(comparison: Comparison) -> list[Setting]:
    """The numeric settings to draw along."""
    return [setting for setting in comparison.axes() if setting.key not in OWN_FIGURE]


def _maps(comparison: Comparison) -> list[Drawn]:
    axes = _axes(comparison)
    if len(axes) < 2:
        return []
    y, x = axes[:2]
    if all(len(points) < 2 for points in comparison.panels((x.key, y.key)).values()):
        return []
    made: list[Drawn] = []
    for column in _mapped(comparison):
        name = column.key.split("/")[-1].replace("_", "-").replace(".", "-")
        cells = forms_grid(comparison, x, y)
        missing = "Hatched cells have no number and say why." if cells else "Crosses have no number."
        caption = (
            f"{missing} A network that is mostly wrong settles at once and has no time here."
            if column.unit == "ms"
            else f"{missing} Grey {'cells' if cells else 'points'} are networks that are mostly wrong."
        )
        picture = Picture(f"{PREFIX}map-{name}.png", caption, f"{column.figure_title}, by {y.bare} and {x.bare}")
        made.append((picture, heat_map(comparison, column, x, y)))
    return made


def _effects(comparison: Comparison) -> list[Drawn]:
    """One figure along the only numeric setting, or over the choices where there is none."""
    axes, columns = _axes(comparison), _mapped(comparison)
    mixed = any(s.key == ZETA and None in s.values for s in comparison.settings)  # networks of rates have no zeta
    choices = [s for s in comparison.settings if s.key not in OWN_FIGURE and not (mixed and None in s.values)]
    if len(axes) > 1 or not choices or not columns:
        return []
    setting = axes[0] if axes else max(choices, key=lambda s: len(s.values))
    if mixed and len(comparison.panels((setting.key,))) > MOST_LINES:
        return []
    picture = Picture(f"{PREFIX}effect.png", "", f"Effect of the {setting.bare}")
    return [(picture, effect_figure(comparison, setting, columns))]
