"""The settings in which runs differ: one for each decision, under the key that a person would type."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd

from respike.report.runs import is_missing, is_number
from respike.runs.conf import groups
from respike.runs.old_names import new_key

# Keys that never count: where a run lies, its name and logger, and keys that repeat others.
NOT_SETTINGS = (
    "callbacks.simulate", "convert.simulate", "convert.norm.simulate", "method", "keep_networks",
    "paths", "logger", "hydra", "name", "sweep_name", "sweep", "budget_min", "paper", "report", "protocol", "facts",
    "threads", "tags", "data", "data.root", "data.dataset", "trainer.default_root_dir", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_checkpointing", "callbacks.figures", "callbacks.train_accuracy",
    "callbacks.convert.stages", "callbacks.convert.keep_networks", "callbacks.simulate._target_", "simulate._target_",
)  # fmt: skip
DATA = "data"  # the data set that was read; the config may allow several
LABELS = {
    DATA: "data set", "seed": "seed", "model._target_": "network", "recipe.name": "recipe",
    "convert._target_": "normalization", "convert.q": "percentile", "encode._target_": "input coding",
    "encode.max_rate": "rate (Hz)", "neuron.threshold": "threshold",
    "neuron.t_ref": "refractory time (s)", "neuron.reset": "reset", "neuron.v_th": "V_th",
    "neuron.surrogate.a": "half-width a", "simulate.duration": "duration (s)", "simulate.dt": "time step (s)",
    "convert.zeta": "zeta", "simulate.time_noise": "noise of spike times", "simulate.alpha_noise": "noise of alpha",
    "simulate.weight_noise": "noise of weights", "simulate.levels": "levels of time", "simulate.trial": "trial",
    "model.steps": "steps T", "model.width_mult": "width", "data.test_size": "test images",
    "data.train_size": "training images", "ckpt_path": "weights",
    "callbacks.convert.calibration_seed": "calibration images", "simulate.read_from": "steps left out",
}  # fmt: skip
SHORT = {
    "no_norm": "none", "percentile_norm": "percentile", "local_threshold_norm": "local_threshold", "mmse_norm": "mmse",
    "qcfs_thresholds": "qcfs",
}  # fmt: skip
# Of several keys with the same values, the key of the first block in this order is kept.
ORDER = (
    DATA, "model._target_", "recipe", "model", "seed", "convert", "encode", "neuron", "simulate", "data.", "lit",
    "trainer", "callbacks",
)  # fmt: skip


MOST_NAMED = 8  # settings in the name of a point or a run


@dataclass(frozen=True)
class Setting:
    """One decision in which runs differ.

    key: dotted, as typed; `convert._target_` for a choice of callable. label: for people, with the unit.
    values: the distinct values, numbers ascending, None where a run has no such key.
    along: other keys that change whenever this one does.
    """

    key: str
    label: str
    values: tuple[Any, ...]
    along: tuple[str, ...] = ()

    @property
    def typed(self) -> str:
        """The name on the command line: `convert`, `neuron.threshold`."""
        return self.key.removesuffix("._target_")

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers, which an axis can show."""
        return all(is_number(value) for value in self.values)

    @property
    def is_seed(self) -> bool:
        """Whether the setting only changes random numbers."""
        return self.key.split(".")[-1] in ("seed", "trial", "calibration_seed")

    @property
    def bare(self) -> str:
        """The label without its unit."""
        return self.label.partition(" (")[0]

    def code(self, value: Any) -> int:
        """The position of the value among `values`."""
        return self.values.index(None if is_missing(value) else value)

    def say(self, value: Any) -> str:
        """The value with its name and unit: "threshold 0.5", "rate 400 Hz", "data_norm", "no normalization"."""
        name, _, unit = self.label.removesuffix(")").partition(" (")
        text = self.shown(value)
        if isinstance(value, str):
            return f"no {name}" if text == "none" else text
        return f"{name} {text}{f' {unit}' if unit and not is_missing(value) else ''}"

    def shown(self, value: Any) -> str:
        """The value as `shown` writes it, in full where another value would be shortened to the same text."""
        text = shown(value)
        alike = sum(shown(other) == text for other in self.values)
        return str(value) if alike > 1 and not is_missing(value) else text


def shown(value: Any) -> str:
    """A value as a person would type it: callables and files without their folders, numbers without trailing zeros."""
    if is_missing(value):
        return "–"
    if isinstance(value, str):
        name = value.rpartition(".")[2] if value.startswith("respike.") else value
        return SHORT.get(name, name if len(name) <= 24 else f"…{name[-23:]}")
    return f"{value:g}" if is_number(value) else str(value)


def settings_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The settings of each run of a frame from `load_runs`: a column for each key, and the data set under `data`."""
    keys = [name for name in frame.columns if name.startswith("cfg.") and not _ignored(name.removeprefix("cfg."))]
    return frame[keys].rename(columns=lambda name: name.removeprefix("cfg.")).assign(**{DATA: frame["data"]})


def varied_settings(table: pd.DataFrame, typed: Iterable[str] = ()) -> tuple[Setting, ...]:
    """The settings in which runs differ, one for each decision.

    table: as `settings_of` gives it. typed: keys given on a command line; these are always settings, even if the network,
    the recipe or the data set determines them. Keys that repeat the values of another (interpolations) are dropped. A
    parameter of a chosen callable counts only where runs with the same callable differ in it.
    """
    given = set(typed)
    # NaN is a key that a run does not have, None a null.
    flats: list[dict[str, Any]] = [
        {str(key): value for key, value in flat.items() if value is None or not is_missing(value)}
        for flat in table.to_dict("records")
    ]
    kept: dict[str, list[str]] = {}
    for key in sorted((key for key in table.columns if _varies(key, flats, given)), key=_rank):
        if any(_repeats(key, other, flats) for other in [*kept, *chain(*kept.values())]):
            continue
        heads = [other for other in kept if _goes_along(key, other, flats)]
        if not heads or key in given or key in LABELS:
            kept[key] = []
        else:
            kept[max(heads, key=lambda head: (head.split(".")[0] == key.split(".")[0], head in LABELS))].append(key)
    labels = _labels(list(kept))
    return tuple(Setting(key, labels[key], _values(key, flats), tuple(along)) for key, along in kept.items())


def settings_text(settings: Sequence[Setting], values: Mapping[Any, Any]) -> str:
    """The values of the settings, by key, with their names: "data_norm, threshold 0.5"; those without a value are left out."""
    known = [setting.say(values[setting.key]) for setting in settings if not is_missing(values[setting.key])]
    return ", ".join(known) or "default"


def named_by_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """A frame from `load_runs` in which runs of one name, as those of a sweep, are labelled by what differs between them.

    Behind the name where there are others. Runs keep their labels where more than MOST_NAMED settings differ, and those
    that repeat the settings of another.
    """
    labels = {label: str(label) for label in runs.index}
    for name, members in runs.groupby("name", sort=False):
        table = settings_of(members)
        settings = varied_settings(table, {key for changed in members["changed"] for key in typed_keys(str(changed))})
        if len(members) == 1 or not 0 < len(settings) <= MOST_NAMED:
            continue
        new = {label: settings_text(settings, row.to_dict()) for label, row in table.iterrows()}
        before = "" if len(members) == len(runs) else f"{name}, "
        labels |= {label: before + new[label] for label in new if list(new.values()).count(new[label]) == 1}
    return runs.set_axis([labels[label] for label in runs.index], axis="index")


def typed_keys(changed: str) -> list[str]:
    """The present keys of the overrides in a run's metrics: "simulate.threshold=2; convert=none"; of options their _target_."""
    keys = [new_key(part.split("=")[0].strip().lstrip("+~")) for part in changed.split("; ") if "=" in part]
    return [_option_key(key) if key.partition("@")[0] in groups() else key for key in keys]


def _option_key(key: str) -> str:
    """The key of a typed option: convert._target_, neuron.surrogate._target_; of convert@convert.norm that of its place."""
    group, _, place = key.partition("@")
    return f"{place or group.replace('/', '.')}._target_"


def _ignored(key: str) -> bool:
    return any(key == name or (name != DATA and key.startswith(f"{name}.")) for name in NOT_SETTINGS)


def _varies(key: str, flats: Sequence[Mapping[str, Any]], given: set[str]) -> bool:
    """Whether runs that made the same choice of callable around the key differ in it."""
    parts = key.split(".")
    choices = [f"{'.'.join(parts[:depth])}._target_" for depth in range(1, len(parts))]
    seen: dict[tuple, set[Any]] = {}
    for flat in flats:
        if key in flat or key in given:
            chosen = tuple(flat.get(choice) for choice in choices if choice != key)
            seen.setdefault(chosen, set()).add(flat.get(key))
    return any(len(values) > 1 for values in seen.values())


def _repeats(key: str, other: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    same_name = key.split(".")[-1] == other.split(".")[-1] or other.startswith("recipe.")
    return same_name and all(flat.get(key) == flat.get(other) for flat in flats if key in flat)


def _goes_along(key: str, head: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the network, recipe or data set alone determines the key."""
    if head not in (DATA, "recipe.name") and not head.startswith("model."):
        return False
    fixed: dict[Any, set[Any]] = {}
    for flat in flats:
        if key in flat:
            fixed.setdefault(flat.get(head), set()).add(flat[key])
    return all(len(values) == 1 for values in fixed.values())


def _rank(key: str) -> tuple:
    blocks = [i for i, name in enumerate(ORDER) if key == name or (name != DATA and key.startswith(name))]
    # model.neuron and simulate.neuron are interpolations of the block neuron.
    block = blocks[0] if blocks and ".neuron." not in key else len(ORDER)
    return block, key != "recipe.name", not key.endswith("._target_"), key.count("."), key


def _labels(keys: Sequence[str]) -> dict[str, str]:
    plain = {key: LABELS.get(key) or _plain_label(key) for key in keys}
    return {key: key if list(plain.values()).count(label) > 1 else label for key, label in plain.items()}


def _plain_label(key: str) -> str:
    return key.removesuffix("._target_").split(".")[-1].replace("_", " ")


def _values(key: str, flats: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    distinct = dict.fromkeys(flat.get(key) for flat in flats)
    return tuple(sorted(distinct, key=lambda value: (not is_number(value), value if is_number(value) else 0)))
