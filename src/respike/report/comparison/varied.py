"""Which settings vary among runs: the keys a person would type, one for each decision, found in the resolved configs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where a run lies, what it is called and who watches it; and what reaches a result only through other keys.
NOT_SETTINGS = (
    "callbacks.simulate",
    "paths", "logger", "hydra", "name", "sweep_name", "sweep", "budget_min", "paper", "report", "protocol", "facts",
    "threads", "tags", "data", "data.root", "data.dataset", "trainer.default_root_dir", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_checkpointing", "callbacks.figures", "callbacks.train_accuracy",
    "callbacks.convert.stages", "callbacks.convert.keep_networks", "callbacks.simulate._target_", "simulate._target_",
)  # fmt: skip
DATA = "data"  # the data set that was really read; the config may allow several
MISSING = None
LABELS = {
    DATA: "data set", "seed": "seed", "model._target_": "network", "recipe.name": "recipe",
    "convert._target_": "normalization", "convert.q": "percentile", "encode._target_": "input coding",
    "encode.max_rate": "rate (Hz)", "simulate.threshold": "threshold", "simulate.duration": "duration (s)",
    "simulate.dt": "time step (s)", "simulate.t_ref": "refractory time (s)", "simulate.reset": "reset",
    "convert.zeta": "zeta", "simulate.time_noise": "noise of spike times", "simulate.alpha_noise": "noise of alpha",
    "simulate.weight_noise": "noise of weights", "simulate.levels": "levels of time", "simulate.trial": "trial",
    "model.v_th": "V_th", "model.surrogate.a": "half-width a", "model.steps": "steps T", "model.width_mult": "width",
    "data.test_size": "test images", "data.train_size": "training images", "ckpt_path": "weights",
}  # fmt: skip
SHORT = {"no_norm": "none", "percentile_norm": "percentile"}
# Of keys that say the same, the one of the room that a person types comes first.
ORDER = (
    DATA,
    "model._target_",
    "recipe",
    "model",
    "seed",
    "convert",
    "encode",
    "simulate",
    "data.",
    "lit",
    "trainer",
    "callbacks",
)


@dataclass(frozen=True)
class Setting:
    """One decision in which runs differ.

    key: dotted, as typed; `convert._target_` for a choice of callable. label: for people, unit included.
    values: the distinct values, numbers ascending, None where a run has no such key.
    along: other keys that change whenever this one does.
    """

    key: str
    label: str
    values: tuple[Any, ...]
    along: tuple[str, ...] = ()

    @property
    def typed(self) -> str:
        """The name on the command line: `convert`, `simulate.threshold`."""
        return self.key.removesuffix("._target_")

    @property
    def numeric(self) -> bool:
        """Whether the values can stand on an axis."""
        return all(is_number(value) for value in self.values)

    @property
    def is_seed(self) -> bool:
        """Whether it only draws again what is random."""
        return self.key.split(".")[-1] in ("seed", "trial")

    def say(self, value: Any) -> str:
        """The value with its name and unit: "threshold 0.5", "rate 400 Hz", "data_norm", "no normalization"."""
        name, _, unit = self.label.removesuffix(")").partition(" (")
        if isinstance(value, str):
            return f"no {name}" if shown(value) == "none" else shown(value)
        return f"{name} {shown(value)}{f' {unit}' if unit and value is not MISSING else ''}"

    @property
    def bare(self) -> str:
        """The label without its unit."""
        return self.label.partition(" (")[0]


def shown(value: Any) -> str:
    """A value as a person would type it: the callable's or the file's own name, numbers without trailing zeros."""
    if value is MISSING:
        return "–"
    if isinstance(value, str):
        name = value.rpartition(".")[2] if value.startswith("respike.") else value
        return SHORT.get(name, name if len(name) <= 24 else f"…{name[-23:]}")
    return f"{value:g}" if is_number(value) else str(value)


def flat_settings(config: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """Every setting of a resolved config under its dotted key, lists as JSON, and the data set's name under `data`."""
    found = {key: value for key, value in _leaves(config, "") if not _ignored(key)}
    return found | {DATA: data}


def varied_settings(flats: Sequence[Mapping[str, Any]], typed: Iterable[str] = ()) -> tuple[Setting, ...]:
    """The settings in which runs differ, one for each decision.

    flats: `flat_settings` of each run. typed: keys given on a command line: these never count as going along with
    another network, recipe or data set. Keys that repeat another's value (interpolations) are dropped; a parameter of
    a chosen callable counts only where runs that chose the same callable differ in it.
    """
    given = set(typed)
    keys = dict.fromkeys(key for flat in flats for key in flat)
    kept: dict[str, list[str]] = {}
    for key in sorted((key for key in keys if _varies(key, flats, given)), key=_rank):
        if any(_repeats(key, other, flats) for other in kept):
            continue
        heads = [other for other in kept if _goes_along(key, other, flats)]
        if not heads or key in given or key in LABELS:
            kept[key] = []
        else:
            kept[max(heads, key=lambda head: (head.split(".")[0] == key.split(".")[0], head in LABELS))].append(key)
    labels = _labels(list(kept))
    return tuple(Setting(key, labels[key], _values(key, flats), tuple(along)) for key, along in kept.items())


def typed_keys(changed: str) -> list[str]:
    """Keys of the overrides that a run's metrics list: "simulate.threshold=2; convert=none"."""
    keys = [part.split("=")[0].strip().lstrip("+~") for part in changed.split("; ") if "=" in part]
    return [key if "." in key else f"{key}._target_" for key in keys]


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        yield key, json.dumps(value)
    else:
        yield key, value
        if value is None:  # beside a block that chooses a callable: none was chosen
            yield f"{key}._target_", None


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
            seen.setdefault(chosen, set()).add(flat.get(key, MISSING))
    return any(len(values) > 1 for values in seen.values())


def _repeats(key: str, other: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    same_name = key.split(".")[-1] == other.split(".")[-1] or other.startswith("recipe.")
    return same_name and all(flat.get(key, MISSING) == flat.get(other, MISSING) for flat in flats if key in flat)


def _goes_along(key: str, head: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the network, recipe or data set alone fixes the key."""
    if head not in (DATA, "recipe.name") and not head.startswith("model."):
        return False
    fixed: dict[Any, set[Any]] = {}
    for flat in flats:
        fixed.setdefault(flat.get(head), set()).add(flat.get(key, MISSING))
    return all(len(values) == 1 for values in fixed.values())


def _rank(key: str) -> tuple:
    rooms = (i for i, name in enumerate(ORDER) if key == name or (name != DATA and key.startswith(name)))
    room = next(rooms, len(ORDER))
    return room, key != "recipe.name", not key.endswith("._target_"), key.count("."), key


def _labels(keys: Sequence[str]) -> dict[str, str]:
    plain = {key: LABELS.get(key) or _plain_label(key) for key in keys}
    return {key: key if list(plain.values()).count(label) > 1 else label for key, label in plain.items()}


def _plain_label(key: str) -> str:
    return key.removesuffix("._target_").split(".")[-1].replace("_", " ")


def _values(key: str, flats: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    distinct = dict.fromkeys(flat.get(key, MISSING) for flat in flats)
    return tuple(sorted(distinct, key=lambda value: (not is_number(value), value if is_number(value) else 0)))


def is_number(value: Any) -> bool:
    """Whether the value can stand on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)
