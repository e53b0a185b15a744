"""Write a comparison: a page with pictures and a sortable table, the pictures, and the numbers as CSV."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from respike.errors import InputError
from respike.figures.style import save
from respike.report.comparison.effects import MOST_LINES, effect_figure
from respike.report.comparison.gather import Comparison, axes_of, panels
from respike.report.comparison.heat_maps import heat_map
from respike.report.comparison.listing import cells, chosen_measures, headings, means_to_csv, sorted_points, to_csv
from respike.report.comparison.measures import Measure, metric
from respike.report.comparison.overlay import overlaid_curves
from respike.report.comparison.points import Point
from respike.report.comparison.trade_figure import trade_off_figure
from respike.report.comparison.ttfs_pictures import OWN_FIGURE, ZETA, noise_figure, zeta_figure
from respike.report.comparison.varied import MISSING, Setting
from respike.report.page import move_in, relative_address

PREFIX = "compare-"


@dataclass(frozen=True)
class Picture:
    """file: name of the PNG. title, caption: what it shows, in words."""

    file: str
    title: str
    caption: str


def write_comparison(
    comparison: Comparison, out: Path | str, title: str, sort: str = "", columns: Sequence[str] = ()
) -> list[Path]:
    """Write out/index.html, comparison.csv (a line per run), means.csv (a line per point) and out/compare-*.png.

    sort, columns: see `sorted_points` and `chosen_measures`. Everything is written beside `out` and then moved in, so
    a failure leaves an earlier comparison whole. Returns the files. Raises InputError when `out` is a file, or a name
    to sort by or to show is unknown.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the comparison")
    measures, points = chosen_measures(comparison, columns), sorted_points(comparison, sort)
    out.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.resolve().parent))
    try:
        pictures = _pictures(comparison, aside)
        to_csv(comparison, points, aside / "comparison.csv")
        means_to_csv(comparison, points, measures, aside / "means.csv")
        page = _page(comparison, points, measures, pictures, out, title)
        (aside / "index.html").write_text(page, encoding="utf-8")
        written = [out / file.name for file in aside.iterdir()]
        move_in(aside, out, PREFIX)
    finally:
        shutil.rmtree(aside)
    return sorted(written)


def _pictures(comparison: Comparison, folder: Path) -> list[Picture]:
    drawn: list[tuple[Picture, Figure | None]] = [*_maps(comparison), *_effects(comparison)]
    trade = Picture(
        f"{PREFIX}trade-off.png",
        "Accuracy against latency against energy",
        "Each point is one choice of settings. Ringed and numbered: no other choice is at least as accurate, as fast and "
        "as frugal and better in one of them. Settings under half of the best accuracy take no part.",
    )
    curves = Picture(
        f"{PREFIX}curves.png",
        "Accuracy over simulated time",
        f"Bands, where there are several {comparison.repeated}, are the 95 % interval of the mean.",
    )
    drawn += _of_spike_times(comparison)
    drawn += [(trade, trade_off_figure(comparison)), (curves, overlaid_curves(comparison))]
    for picture, figure in drawn:
        if figure is not None:
            save(figure, folder / picture.file)
    return [picture for picture, figure in drawn if figure is not None]


def _mapped(comparison: Comparison) -> list[Measure]:
    wanted = [metric("snn/test_acc"), comparison.latency, metric("snn/spikes_per_image")]
    return [m for m in wanted if any(m.of(run) is not None for run in comparison.runs)]


def _axes(comparison: Comparison) -> list[Setting]:
    """The numeric settings to draw along."""
    return [setting for setting in axes_of(comparison) if setting.key not in OWN_FIGURE]


def _of_spike_times(comparison: Comparison) -> list[tuple[Picture, Figure | None]]:
    margin = Picture(
        f"{PREFIX}zeta.png",
        "What the margin zeta buys",
        "A layer's interval lasts (1 + zeta) times its largest activation. Proved: the bound shows, without sorting, that the "
        "neuron fires after its last input, so that it fires as the ReLU network computes.",
    )
    noise = Picture(
        f"{PREFIX}noise.png",
        "Accuracy under noise",
        "Deviations are in input intervals for spike times, and shares of 1 for the drive alpha and for weights.",
    )
    return [(margin, zeta_figure(comparison)), (noise, noise_figure(comparison))]


def _maps(comparison: Comparison) -> list[tuple[Picture, Figure]]:
    axes = _axes(comparison)
    if len(axes) < 2:
        return []
    y, x = axes[:2]
    made = []
    for measure in _mapped(comparison):
        picture = Picture(
            f"{PREFIX}map-{measure.key.split('/')[-1].replace('_', '-').replace('.', '-')}.png",
            f"{measure.title}, by {y.bare} and {x.bare}",
            "Hatched cells have no number and say why. A net that is mostly wrong settles at once: it has no time here."
            if measure.unit == "ms"
            else "Hatched cells have no number and say why; grey nets are mostly wrong and not coloured.",
        )
        made.append((picture, heat_map(comparison, measure, x, y)))
    return made


def _effects(comparison: Comparison) -> list[tuple[Picture, Figure]]:
    """One figure along the only axis there is, or over the choices where there is none."""
    axes, measures = _axes(comparison), _mapped(comparison)
    mixed = any(s.key == ZETA and MISSING in s.values for s in comparison.settings)  # rates have no zeta
    choices = [s for s in comparison.settings if s.key not in OWN_FIGURE and not (mixed and MISSING in s.values)]
    if len(axes) > 1 or not choices or not measures:
        return []
    setting = axes[0] if axes else max(choices, key=lambda s: len(s.values))
    if mixed and len(panels(comparison, (setting.key,))) > MOST_LINES:
        return []
    title = f"What the {setting.bare} does"
    return [(Picture(f"{PREFIX}effect.png", title, ""), effect_figure(comparison, setting, measures))]


def _page(
    comparison: Comparison,
    points: Sequence[Point],
    measures: Sequence[Measure],
    pictures: Sequence[Picture],
    out: Path,
    title: str,
) -> str:
    environment = Environment(
        loader=PackageLoader("respike.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    links = [
        [(_link_text(run), relative_address(run.path, out) + "/") for run in p.runs if run.path.is_dir()]
        for p in points
    ]
    return environment.get_template("comparison.html.j2").render(
        title=title,
        comparison=comparison,
        headings=headings(comparison, measures),
        rows=[(cells(comparison, p, measures), linked) for p, linked in zip(points, links, strict=True)],
        pictures=pictures,
        failures=[(os.fspath(f.path), f) for f in comparison.failures],
    )


def _link_text(run) -> str:
    return "/".join(run.path.parts[-2:])
