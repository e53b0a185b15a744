"""The answer to a key that the config does not have: what to type instead."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from respike.errors import InputError
from respike.runs.calls import given_by_run, parameters, resolved_target
from respike.runs.conf import groups, names, options
from respike.runs.kinds import nearest
from respike.runs.settings import SETTINGS

SYNONYMS = {  # a key, or GROUP=OPTION -> what it is called here; KEY=UNIT: its value has another unit
    "T": "simulate.duration=SECONDS",
    "steps": "simulate.duration=SECONDS",
    "time": "simulate.duration=SECONDS",
    "network": "model",
    "net": "model",
    "dataset": "data",
    "data_dir": "paths.data",
    "batch": "recipe.batch_size",
    "lr_scheduler": "recipe/scheduler",
    "random_seed": "seed",
    "trainer=cpu": "default",
}

REFERENCE = re.compile(r"\$\{(\w[\w.]*)\}")  # a value that is another setting's


def unknown_key(key: str, line: str, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]) -> str:
    """The answer to the override `line` with a key that the config of all overrides does not have.

    compose: overrides -> their config. The answer is that of the first function of ANSWERS that knows the key.
    """
    swept = next((one for one in overrides if one.startswith(("sweep=", "search="))), None)
    if line == key and swept:  # nobody typed it
        experiment = next((one for one in overrides if one.startswith("experiment=")), "the network of the defaults")
        return f"{swept}: varies {key}, which {experiment} does not have; type another experiment, or leave {swept} out"
    others = [one for one in overrides if one != line and not _is_sweep(one)]
    chosen = [one for one in others if one.partition("=")[0].lstrip("+~").partition("@")[0] in groups()]
    try:
        cfg = compose([*chosen, *(one for one in others if "_target_" in one)])
    except (InputError, HydraException, OmegaConfBaseException):
        # Another mistake, or a file on a search path of one's own.
        return f"{line}: there is no setting {key}; type --cfg job as well to see all"
    typed = _Typed(line, key, line.partition("=")[2] if "=" in line else "VALUE", cfg)
    try:
        return next(found for answer in ANSWERS if (found := answer(typed)))
    except InputError as error:
        return str(error)


@dataclass
class _Typed:
    """An override KEY=VALUE, and the config without it. block, name: KEY is BLOCK.NAME, or NAME alone."""

    line: str
    key: str
    value: str
    cfg: DictConfig

    def __post_init__(self) -> None:
        self.block, _, self.name = self.key.rpartition(".")

    def find(self, key: str) -> Any:
        """What the config has for a key; None where that refers to something that is not there."""
        return OmegaConf.select(self.cfg, key, throw_on_missing=False, throw_on_resolution_failure=False)

    @cached_property
    def node(self) -> Any:
        """What the config has for the block, or the config itself; None if nothing."""
        return self.find(self.block) if self.block else self.cfg

    @property
    def no_setting(self) -> str:
        return f"{self.line}: there is no setting {self.key}"

    @property
    def target(self) -> str | None:
        """What the block makes."""
        return self.find(f"{self.block}._target_") if isinstance(self.node, DictConfig) and self.block else None

    @cached_property
    def parameters(self) -> tuple[dict[str, Any], bool, dict[str, str]]:
        """Of the target of the block: what it takes, whether it takes more, and what the run gives to it itself.

        Raises InputError for a target that cannot be imported.
        """
        if not self.target:
            return {}, False, {}
        function = resolved_target(self.block, self.target)
        takes, takes_more = parameters(self.target, function)
        by_run = given_by_run(self.block, self.node, function, self.find)
        return {one: kind for one, kind in takes.items() if one not in by_run}, takes_more, by_run

    @property
    def siblings(self) -> list[str]:
        """The settings of its block; without a block the settings, and the groups that have the option VALUE."""
        listed = (
            [one for one in map(str, self.node) if not one.startswith("_")] if isinstance(self.node, DictConfig) else []
        )
        if self.block:
            return listed
        return [one for one in listed if _is_option(one, self.value) or not isinstance(_raw(one, self.cfg), dict)]


def _group(typed: _Typed) -> str | None:
    """A path with an option, or a group with a near name."""
    group, _, option = typed.key.rpartition("/")
    if _is_option(group, option):
        return f"{typed.line}: there is no group {typed.key}; type {group}={option}"
    if "/" in typed.key and (near := nearest(typed.key, groups())):
        return f"{typed.line}: there is no group {typed.key}; type {near}={typed.value}"
    return None


def _block_without_settings(typed: _Typed) -> str | None:
    """A block that refers to another one, is null, or is none of the method's."""
    above, _, last = typed.block.rpartition(".")
    parent = typed.find(above) if above else typed.cfg
    there = isinstance(parent, DictConfig) and last in parent
    if there and (origin := REFERENCE.fullmatch(str(_raw(last, parent)))):
        return f"{typed.line}: {typed.block} is that of {origin[1]}; type {origin[1]}.{typed.name}={typed.value}"
    if there and typed.find(typed.block) is None and last != typed.block:
        return f"{typed.line}: {typed.block} is null; type +{typed.key}={typed.value}"
    top = typed.key.partition(".")[0]
    if "." in typed.key and top in SETTINGS and typed.find(top) is None:
        return f"{typed.line}: method={typed.cfg.method.name} has no {top}; leave {typed.key}= out"
    return None


def _parameter(typed: _Typed) -> str | None:
    """A parameter of what the block makes that its config does not have, or that the run gives itself."""
    takes, takes_more, by_run = typed.parameters
    if (target := typed.target) is None:
        return None
    if typed.name in by_run:
        return f"{typed.line}: the run gives {typed.name} to {target.rpartition('.')[2]} itself; {by_run[typed.name]}"
    if typed.name in takes or (takes_more and not nearest(typed.name, map(str, typed.node), cutoff=0.8)):
        return f"{typed.line}: not in the config of {typed.block}, but a parameter of {target}; type +{typed.key}={typed.value}"
    if takes and not target.startswith("respike.") and not (set(map(str, typed.node)) - {"_target_"}):
        return (
            f"{typed.line}: {target} has no parameter {typed.name}; "
            f"type +{typed.block}.NAME={typed.value} with one of {', '.join(takes)}"
        )
    return None


def _of_another_option(typed: _Typed) -> str | None:
    """A setting that the block has with other options of its group."""
    having = _options_with(typed, cutoff=1)
    return having and f"{typed.no_setting} now; {having}"


def _elsewhere(typed: _Typed) -> str | None:
    """A setting that has another name here, or that another block has."""
    exact = _synonym(typed) or _endings(typed)
    return f"{typed.no_setting}; type {' or '.join(exact)}" if exact else None


def _misspelt(typed: _Typed) -> str | None:
    """A setting or parameter of the block, or of its other options, with a near name."""
    siblings, takes = typed.siblings, typed.parameters[0]
    if near := nearest(typed.name, [*siblings, *takes], cutoff=0.6 if typed.block else 0.8):
        plus = "" if near in siblings else "+"
        better = f"{typed.block}.{near}" if typed.block else near
        return f"{typed.line}: {typed.block or 'the config'} has no setting {typed.name}; type {plus}{better}={typed.value}"
    having = _options_with(typed, cutoff=0.8)
    return having and f"{typed.no_setting} now; {having}"


def _not_found(typed: _Typed) -> str:
    """The settings of the block, the nearest key of all, or where all are shown."""
    if typed.block and typed.siblings:
        return f"{typed.no_setting}; type {typed.block}.NAME={typed.value} with one of {', '.join(typed.siblings)}"
    if typed.block and (near := nearest(typed.key, _keys(typed.cfg, ""), cutoff=0.8)):
        return f"{typed.no_setting}; type {near}={typed.value}"
    shown = "hydra" if typed.key.partition(".")[0] == "hydra" else "job"
    return f"{typed.no_setting}; type --cfg {shown} as well to see all"


ANSWERS: tuple[Callable[[_Typed], str | None], ...] = (
    _group, _block_without_settings, _parameter, _of_another_option, _elsewhere, _misspelt, _not_found,
)  # fmt: skip


def _synonym(typed: _Typed) -> list[str]:
    """What to type for a key that has another name here."""
    meant, _, said = SYNONYMS.get(typed.name, "").partition("=")
    if not meant or (typed.block and not meant.startswith(f"{typed.block}.")):
        return []
    if meant in groups():
        return [f"{meant}={typed.value if _is_option(meant, typed.value) else 'OPTION'}"]
    return [] if typed.find(meant) is None else [f"{meant}={said or typed.value}"]


def _endings(typed: _Typed) -> list[str]:
    """What to type for a key of another block: every setting of this name, or that of the block with a near name."""
    name, cfg = typed.name, typed.cfg
    if not typed.block and (
        found := [group for group in groups() if group.rpartition("/")[2] == name and _is_option(group, typed.value)]
    ):
        return [f"{group}={typed.value}" for group in found]
    top = typed.key.partition(".")[0]
    tops = {top} if top == "hydra" and typed.block else set(map(str, cfg)) - {"hydra", "protocol"}
    ends = [one for one in _keys(cfg, "") if one.rpartition(".")[2] == name and one.partition(".")[0] in tops]
    ends = [one for one in ends if not name.startswith("_")]
    # A setting that refers to another one is set by that.
    ends = [one for one in ends if not REFERENCE.fullmatch(str(_raw(one, cfg)))] or ends
    if typed.block and (near := nearest(typed.key, ends, cutoff=0.8)):
        ends = [near]
    return [line for one in ends if (line := _as_typed(one, typed))]


def _as_typed(key: str, typed: _Typed) -> str | None:
    """The override that gives a setting the value; of a block its _target_. None for a block that has none."""
    node = typed.find(key)
    if not isinstance(node, DictConfig) or typed.value.startswith("{"):
        return f"{key}={typed.value}"
    target = OmegaConf.select(node, "_target_", throw_on_missing=False)
    return f"{key}._target_={target.rpartition('.')[0]}.NAME" if isinstance(target, str) else None


def _options_with(typed: _Typed, cutoff: float) -> str | None:
    """Which options of the block's group, among those that go with the method, have a setting of this or a near name."""
    group, name = typed.block.replace(".", "/"), typed.name
    listed = typed.cfg.method.options.get(group, "all")
    chosen = [path for path in options(group) if listed == "all" or path.stem in listed] if group in groups() else []
    found = {path.stem: near for path in chosen if (near := nearest(name, map(str, OmegaConf.load(path)), cutoff))}
    if not found:
        return None
    named = "" if name in found.values() else f", named {next(iter(found.values()))}"
    return f"{' or '.join(f'{group}={option}' for option in found)} has it{named}"


def _is_option(group: str, values: str) -> bool:
    """Whether values, one or several, are options of a group."""
    return group in groups() and set(values.split(",")) <= set(names(group))


def _is_sweep(line: str) -> bool:
    """Whether an override gives several values."""
    return OverridesParser.create().parse_override(line).is_sweep_override()


def _raw(key: str, cfg: DictConfig) -> Any:
    """What the config has for a key, with references as they are written."""
    value: Any = OmegaConf.to_container(cfg, resolve=False)
    for name in key.split("."):
        value = value[name]
    return value


def _keys(node: DictConfig, path: str) -> Iterator[str]:
    """Every key of a config, blocks before what is in them."""
    for name in map(str, node):
        key = f"{path}.{name}" if path else name
        yield key
        if OmegaConf.is_interpolation(node, name) or OmegaConf.is_missing(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from _keys(node[name], key)
