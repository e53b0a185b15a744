"""Groups of runs that share a figure, the names of their curves and the caption."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from respike.errors import InputError
from respike.figures.curves import accuracy_over_time
from respike.figures.robustness import recovery
from respike.metrics.interval import CONFIDENCE, half_interval
from respike.networks.qcfs import ACTIVATION
from respike.report.runs import is_missing, is_number, numbers
from respike.report.summary import listed
from respike.report.verdicts import UNPUBLISHED, calibrated_on, is_compared, published_curve, standard_error

FEWEST = 3  # steps of a curve that is drawn


@dataclass(frozen=True)
class Group:
    """A section of the report: its title, the rows of its runs, its text, and whether a table lists the runs.

    gallery: name of the row whose pictures it shows, "" for none.
    """

    title: str
    runs: pd.DataFrame
    text: str = ""
    table: bool = False
    gallery: str = ""


def chosen_groups(judged: pd.DataFrame, groups: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The groups of a config: {title, runs: [names], text?, table?, gallery?}.

    Names without a run and empty groups are left out. Raises InputError when a group lacks its title or its runs.
    """
    finished, made = judged[judged["failure"] == ""], []
    for group in groups:
        names = group.get("runs")
        if not group.get("title") or not isinstance(names, Sequence) or isinstance(names, str):
            raise InputError(f"report group {dict(group)!r}; expected title: text and runs: [names], text: is optional")
        members = finished[finished.index.isin(names) | finished["name"].isin(names)]
        if len(members):
            text, gallery = str(group.get("text") or ""), str(group.get("gallery") or "")
            gallery = gallery if gallery in members.index else ""
            made.append(Group(str(group["title"]), members, text, bool(group.get("table")), gallery))
    return made


def groups_by_network(judged: pd.DataFrame) -> list[Group]:
    """One group per network and data set, in the order of the rows: its runs differ in conversion and simulation."""
    finished = judged[judged["failure"] == ""]
    if finished.empty:
        return []
    older = {f"cfg.model.{name}": value for name, value in ACTIVATION.items() if value is not None}  # runs before these
    settings = finished[[name for name in finished.columns if name.startswith("cfg.model.")]].fillna(older)
    # A run without a model block is a group of its own.
    own = pd.Series(finished.index, finished.index).where(settings.isna().all(axis=1), "")
    keys = settings.fillna("").astype(str).agg("|".join, axis=1) + own + finished["data"].astype(str)
    networks = [members for _, members in finished.groupby(keys, sort=False)]
    only = [str(members.index[0]) if len(members) == 1 else "" for members in networks]
    return [Group(shared_title(members), members, gallery=one) for members, one in zip(networks, only, strict=True)]


def group_figure(group: Group) -> Figure | None:
    """Accuracy over time of the group's runs; of those trained in spike time what that recovers; None without either."""
    drawn = _with_curve(group)
    if drawn.empty:
        points = _recovered(group)
        return None if points.empty else recovery(points)
    return accuracy_over_time(
        {name: curve.to_dict("list") for name, curve in zip(drawn.index, drawn["curve"], strict=True)},
        reference=_references(drawn),
        ann=_networks(drawn),
    )


def caption(group: Group) -> str:
    """One paragraph: the group's own text, then what the figure shows."""
    drawn = _with_curve(group)
    full = group.runs[group.runs["reduced"] == ""]
    measured = full if len(full) else group.runs
    sets = _test_sets(measured)
    if drawn.empty:
        return f"{group.text} Measured on {sets}; {_without_curve(group)}.".strip()
    clock = "time" if _in_ms(drawn) else "steps"
    said = [f"{group.text} Accuracy of the spiking network against simulated {clock}, on {sets}".strip()]
    said += ["the top few points enlarged on the right"]
    said += ["dashed, the ReLU network before conversion"] if _networks(drawn) else []
    marks = _references(drawn) if _in_ms(drawn) else {}
    said += [f"open markers, {' and '.join(marks)}"] if marks else []
    on_test = [str(run["row"]) for _, run in drawn.iterrows() if calibrated_on(run) == "test"]
    said += [f"calibrated on the test images: {', '.join(on_test)}"] if on_test else []
    several = [f"{run['row']} ({run['seeds']})" for _, run in drawn.iterrows() if "acc_low" in run["curve"]]
    first = [str(run["row"]) for _, run in drawn.iterrows() if run["seeds"] > 1 and "acc_low" not in run["curve"]]
    said += [f"of the lowest seed: {', '.join(first)}"] if first else []
    said += [f"mean over seeds, shaded from the worst to the best: {', '.join(several)}"] if several else []
    reduced = [f"{run['row']} ({run['reduced']})" for _, run in drawn.iterrows() if run["reduced"]]
    note = f" Reduced, so not comparable with published numbers: {', '.join(reduced)}." if reduced else ""
    return f"{'; '.join(said)}.{note}"


def _test_sets(runs: pd.DataFrame) -> str:
    """On what runs were measured: "10,000 test images each of MNIST and CIFAR-10, and 5,000 test images of digits"."""
    sets: dict[str, list[str]] = {}
    for images, data in dict.fromkeys(zip(runs["test_images"], runs["data"], strict=True)):
        sets.setdefault(f"{images:,.0f}", []).append(str(data))
    return ", and ".join(
        f"{images} test images {'each ' if len(data) > 1 else ''}of {listed(data)}" for images, data in sets.items()
    )


def _without_curve(group: Group) -> str:
    """What is shown in place of accuracy over time."""
    if len(_recovered(group)):
        return "points are accuracies with 95 % intervals, over the seeds or, of a single run, over the test images"
    said = []
    if "ttfs/latency" in group.runs.dropna(axis="columns", how="all"):
        said.append("there is no curve over time: the class is read once, at the latency given")
    steps = sorted({len(curve) for curve in group.runs["curve"] if 0 < len(curve) < FEWEST})
    if steps:
        said.append(f"no curve is drawn for T = {listed(steps)}")
    return "; ".join(said) or "no accuracy over time was recorded"


def slug(text: str, taken: Sequence[str] = ()) -> str:
    """Lower-case letters, digits, _ and - only, fit for a file name and an anchor, and none of `taken`."""
    base = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60] or "unnamed"
    numbered = (base if i == 1 else f"{base}-{i}" for i in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def _with_curve(group: Group) -> pd.DataFrame:
    """The runs with a curve, under the names of their curves; the column `row` keeps their names in the tables."""
    drawn = group.runs[group.runs["curve"].map(lambda curve: "acc" in curve and len(curve) >= FEWEST).astype(bool)]
    return drawn.assign(row=drawn.index).set_axis(_curve_names(drawn), axis="index")


def _recovered(group: Group) -> pd.DataFrame:
    """The runs that start from another experiment's weights: what disturbs them, whether they trained, accuracy, its interval.

    The interval is that over the seeds, of a single run that over the images. Empty if none or all of them trained.
    """
    runs = group.runs
    if "cfg.start" not in runs or "cfg.train" not in runs:
        return pd.DataFrame()
    runs = runs[~runs["cfg.start"].map(is_missing).astype(bool)]
    titles = [str(method).split(", ") for method in runs["method"]]
    points = pd.DataFrame(
        {
            "what": [", ".join(parts[1:-1]) or parts[0] for parts in titles],
            "trained": [bool(train) for train in runs["cfg.train"]],
            "accuracy": numbers(runs, "snn/test_acc").to_numpy(),
            "half": [_half_interval(run) for _, run in runs.iterrows()],
        }
    )
    return points if points["trained"].nunique() == 2 else points.iloc[:0]  # nothing to compare


def _half_interval(run: pd.Series) -> float:
    """Half the 95 % interval of a run's accuracy: of a mean Student's, of a share of images the normal one; NaN if unknown."""
    if seeds := run["over_seeds"].get("snn/test_acc"):
        return half_interval(seeds)
    share: Any = run.get("snn/test_acc")
    if not is_number(share) or not 0 <= share <= 1:
        return math.nan
    return float(stats.norm.ppf((1 + CONFIDENCE) / 2) * standard_error(share, run["test_images"]))


def _curve_names(drawn: pd.DataFrame) -> list[str]:
    """What distinguishes a run in its group, then its row: "data-normalized (diehl_fc)"."""
    titles = [method.split(", ") for method in drawn["method"]]
    shared = len(_shared_parts(titles))
    names = []
    for (row, run), title in zip(drawn.iterrows(), titles, strict=True):
        rest = ", ".join(title[shared:]) if shared else ""
        name = f"{rest} ({row})" if 0 < len(rest) <= 40 else str(row)
        names.append(f"{name}, reduced" if run["reduced"] else name)
    return names


def _in_ms(drawn: pd.DataFrame) -> bool:
    """Whether all steps of the curves have a length; those of directly trained networks have none."""
    return all("time_ms" in curve and curve["time_ms"].notna().all() for curve in drawn["curve"])


def shared_title(members: pd.DataFrame) -> str:
    """What the titles of runs share; of a single run its title."""
    if len(members) == 1:
        return members["method"].iloc[0] or str(members.index[0])
    shared = _shared_parts([method.split(", ") for method in members["method"]])
    return ", ".join(filter(None, shared)) or ", ".join(dict.fromkeys(map(str, members["name"])))


def _shared_parts(titles: Sequence[Sequence[str]]) -> list[str]:
    """The parts that all titles begin with."""
    return [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*titles, strict=False))]


def _networks(drawn: pd.DataFrame) -> dict[str, float]:
    """ReLU accuracies by curve; a single line when the runs share one network."""
    known = numbers(drawn, "ann/test_acc").dropna()
    found = dict(zip(known.index, known, strict=True))
    return {"ReLU network": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def _references(drawn: pd.DataFrame) -> dict[str, list[tuple[float, float]]]:
    """The points of paper.curve, under what paper.curve_source says they are, of rows of the published protocol and data.

    Also where no number is judged, because the published ones are quoted from memory.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for name, run in drawn.iterrows():
        points = published_curve(run)
        unjudged = run["verdict"] == UNPUBLISHED and not run["other_data"] and not run["differs"]
        if not points or not (is_compared(run) or unjudged):
            continue
        source: Any = run.get("cfg.paper.curve_source")
        label = "reference" if is_missing(source) else str(source)
        found[label if found.get(label, points) == points else f"{label}, {name}"] = points
    return found
