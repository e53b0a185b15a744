"""Which runs lie over each other in one figure, what they are called there and what the caption says."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from matplotlib.figure import Figure

from respike.errors import InputError
from respike.figures import curves as figures
from respike.report.table import Row


@dataclass(frozen=True)
class Group:
    """title and text of the section, its rows, each of which has a run, and whether a table lays them side by side."""

    title: str
    rows: tuple[Row, ...]
    text: str = ""
    table: bool = False


def chosen_groups(rows: Sequence[Row], groups: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Groups as a config gives them: {title, runs: [names], text?, table?}; names without a run are left out, empty groups too.

    Raises InputError when a group lacks its title or its runs.
    """
    made = []
    for group in groups:
        if not group.get("title") or not isinstance(group.get("runs"), Sequence) or isinstance(group["runs"], str):
            raise InputError(f"report group {dict(group)!r}; expected title: text and runs: [names], text: is optional")
        members = tuple(row for row in rows if row.run and {row.name, row.run.name} & set(group["runs"]))
        if members:
            made.append(Group(str(group["title"]), members, str(group.get("text") or ""), bool(group.get("table"))))
    return made


def groups_by_network(rows: Sequence[Row]) -> list[Group]:
    """One group per network and data set, in the order of the rows: its runs differ in conversion and simulation."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.run:
            model = row.run.config.get("model") or row.name
            found.setdefault(json.dumps([model, row.data], sort_keys=True, default=str), []).append(row)
    return [Group(_shared_title(members), tuple(members)) for members in found.values()]


def group_figure(group: Group) -> Figure | None:
    """Accuracy over time of the group's runs, or None when none of them recorded a curve."""
    drawn = _drawn(group)
    if not drawn:
        return None
    names = _curve_names(group, drawn)
    return figures.accuracy_over_time(
        {name: row.run.curve for name, row in zip(names, drawn, strict=True)},
        reference=_references(names, drawn),
        ann=_networks(names, drawn),
    )


def caption(group: Group) -> str:
    """One paragraph: the group's own text, then what the figure shows."""
    drawn = _drawn(group)
    measured = [row for row in group.rows if not row.reduced] or group.rows
    sizes = [f"{row.number('test_images'):,.0f} test images of {row.data}" for row in measured]
    sets = " and ".join(dict.fromkeys(sizes))
    if not drawn:
        return f"{group.text} Measured on {sets}; no accuracy over time was recorded.".strip()
    said = [f"{group.text} Accuracy of the spiking network against simulated time, on {sets}".strip()]
    said += ["the top few points enlarged on the right"]
    said += ["dashed, the ReLU network before conversion"] if _networks(_curve_names(group, drawn), drawn) else []
    said += ["open markers, the published values"] if _references(_curve_names(group, drawn), drawn) else []
    reduced = [f"{row.name} ({row.reduced})" for row in drawn if row.reduced]
    note = f" Reduced, so not comparable with published numbers: {', '.join(reduced)}." if reduced else ""
    return f"{'; '.join(said)}.{note}"


def slug(text: str, taken: Sequence[str] = ()) -> str:
    """Lower-case letters, digits, _ and - only, fit for a file name and an anchor, and none of `taken`."""
    base = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60] or "unnamed"
    numbered = (base if i == 1 else f"{base}-{i}" for i in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def _drawn(group: Group) -> list[Row]:
    return [row for row in group.rows if row.run.curve.get("acc")]


def _shared_title(members: Sequence[Row]) -> str:
    first = members[0]
    if len(members) == 1:
        return first.method or first.name
    shared = _shared_parts([row.method.split(", ") for row in members])
    return ", ".join(shared) or ", ".join(row.name for row in members)


def _shared_parts(titles: Sequence[Sequence[str]]) -> list[str]:
    """The parts all titles begin with."""
    return [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*titles, strict=False))]


def _curve_names(group: Group, drawn: Sequence[Row]) -> list[str]:
    """What sets a run apart from the others of its group, then its row: "data-normalized (diehl_fc)"."""
    titles = [row.method.split(", ") for row in drawn]
    shared = len(_shared_parts(titles))
    names = []
    for row, title in zip(drawn, titles, strict=True):
        apart = ", ".join(title[shared:]) if shared else ""
        name = f"{apart} ({row.name})" if 0 < len(apart) <= 40 else row.name
        names.append(f"{name}, reduced" if row.reduced else name)
    return names


def _networks(names: Sequence[str], drawn: Sequence[Row]) -> dict[str, float]:
    """ReLU accuracies by curve; a single line when the runs share one network."""
    found = {name: row.number("ann/test_acc") for name, row in zip(names, drawn, strict=True)}
    found = {name: accuracy for name, accuracy in found.items() if accuracy is not None}
    return {"ReLU network": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def _references(names: Sequence[str], drawn: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Published points of the full runs; a reduced run never stands beside them as if it were the same thing."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, row in zip(names, drawn, strict=True):
        given = [] if row.reduced else row.run.paper.get("curve") or []
        if given:
            points = [(float(time), float(accuracy)) for time, accuracy in given]
            label = f"published, {row.source}" if row.source else "published"
            found[label if found.get(label, points) == points else f"{label}, {name}"] = points
    return found
