"""Overrides as a person types them, KEY=VALUE or GROUP=OPTION: mistakes are answered in one line, with the nearest name."""

import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from respike.errors import InputError
from respike.runs.check import given_by_run, kinds_of, parameters, resolved_target, wrong
from respike.runs.conf import CONF, names, options
from respike.runs.kinds import accepts, allowed, nearest, said_as
from respike.runs.old_names import check_words
from respike.runs.settings import SETTINGS

NEEDED = (
    "method",
    "data",
    "model",
    "recipe",
    "trainer",
    "paths",
    "lit",
    "simulate",
    "callbacks",
)  # groups that every run has an option of

NONE = {  # group -> what to type for none of its options; for the first three that is the default
    "experiment": "leave experiment= out",
    "sweep": "leave sweep= out",
    "search": "leave search= out",
    "logger": "type logger=none",
    "energy": "type callbacks.simulate.energy=null",
    "recipe/scheduler": "type recipe/scheduler=constant",
}

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

PLACES = {  # key -> block and name of its kind, an example; Hydra makes their folders before the config is checked
    "name": ("", "name", "mine"),
    "sweep_name": ("", "sweep_name", "mine"),
    "paths.outputs": ("paths", "outputs", "outputs"),
    "paths.run": ("paths", "run", "outputs/mine"),
    "paths.stages": ("paths", "stages", "outputs/stages"),
    "hydra.run.dir": ("paths", "run", "outputs/mine"),
    "hydra.sweep.dir": ("paths", "run", "outputs/mine"),
}


def check_typed(overrides: Sequence[str]) -> None:
    """Raise InputError for overrides that cannot be read, old names, options that a group does not have, and names that lead
    out of the folder of runs.
    """
    check_words(overrides)
    for line in overrides:
        try:
            override = OverridesParser.create().parse_override(line)
        except HydraException as error:
            raise InputError(_unreadable(line)) from error
        if not override.key_or_group:
            raise InputError(_unreadable(line))
        _check_option(line, override)
        _check_hydra(line, override)
        if override.key_or_group in PLACES and not override.is_sweep_override():
            block, name, example = PLACES[override.key_or_group]
            kind, value = kinds_of(SETTINGS[block])[name], None if override.is_delete() else override.value()
            plain = value if isinstance(value, str | int | float) or value is None else str(value)
            if str(plain).startswith("~") and (expanded := os.path.expanduser(str(plain))) != plain and name != "name":
                raise InputError(f"{line}: ~ would be a folder of that name; type {override.key_or_group}={expanded}")
            if "${" not in str(plain) and not accepts(kind, plain):
                raise InputError(wrong(override.key_or_group, plain, kind, example, line))


@cache
def groups() -> list[str]:
    """The config groups of conf/, as they are typed: model, recipe/scheduler, ..."""
    found = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    return sorted(found - {".", "report", "wandb_sweeps", "hydra/help", "convert/none"})  # the last: by method


def explained(error: BaseException, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]) -> str | None:
    """The line for an error that Hydra or OmegaConf raised for these overrides; None for other errors.

    compose: overrides -> their config, for the names that exist.
    """
    text = str(error)
    if isinstance(error, OSError) and traceback.extract_tb(error.__traceback__)[-1].name in ("mkdir", "makedirs"):
        return f"{error.filename}: the folder of the run cannot be made ({error.strerror}); type paths.outputs=FOLDER"
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingConfigException):
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        if not group:
            return f"--config-name={option}: there is no such config; leave --config-name and --config-path out"
        line = next((line for line in overrides if _chooses(line, f"{group}/{option}")), f"{group}={option}")
        return f"{line}: {_options(line.partition('=')[0].lstrip('+'), option, list(error.options or ()))}"
    if found := re.match(r"Could not override '(.+?)'", text):
        return _unknown(found[1], overrides, compose)
    if found := re.match(r"Could not append to config. An item is already at '(.+?)'", text):
        line = _line(found[1], overrides)
        return f"{line}: {found[1]} exists; type {line.lstrip('+')}"
    if found := re.match(r"Could not delete from (?:config|defaults list)\W.*?'(.+?)'", text):
        return f"~{found[1]}: there is nothing of this name to remove; leave it out"
    if found := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?:\n| requires)", text):
        return _several(found[1])
    if found := re.match(r"Error merging override (.+)", text):
        reason = str(error.__cause__).splitlines()[0] if error.__cause__ else "it does not fit there"
        return f"{found[1]}: {reason}; type {found[1].partition('=')[0].rpartition('.')[0] or 'KEY'}=VALUE"
    if isinstance(error, HydraException | OmegaConfBaseException):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{' '.join(overrides)}: {'; '.join(lines[:2])}; --cfg job shows the settings, --help the options"
    return None


def _several(line: str) -> str:
    """The answer to several values where one is needed: the first, a list where the setting takes one, or a sweep."""
    override = OverridesParser.create().parse_override(line)
    key, _, values = line.partition("=")
    block, _, name = key.lstrip("+").rpartition(".")
    kind = kinds_of(SETTINGS[block]).get(name) if block in SETTINGS else None
    advice = []
    swept = override.value()
    if isinstance(swept, ChoiceSweep):
        first = swept.list[0]
        if kind is None or accepts(kind, first):
            advice.append(f"{key}={next(override.sweep_string_iterator())}")
        if key not in groups() and (kind is None or "a list" in allowed(kind)) and "(" not in values:
            advice.append(f"a list as '{key}=[{values}]'")
    if key not in ("sweep", "search"):
        advice.append("-m and search=OPTION for a search" if override.is_interval_sweep() else "-m for a sweep")
    return f"{line}: one value is needed; type {', or '.join(advice)}"


def _chooses(line: str, file: str) -> bool:
    """Whether an override chooses this file of a group, as convert/mmse, alone or among several."""
    key, _, value = line.partition("=")
    group = key.lstrip("+").partition("@")[0]
    return file in (f"{group}/{option}" for option in re.split(r"[\s,\[\]]+", value))


def _check_option(line: str, override: Override) -> None:
    """What Hydra would not answer, or with a traceback: no option of a group, and options of other types."""
    group = override.key_or_group
    if group not in groups():
        return
    known = ", ".join(names(group))
    if override.is_sweep_override():
        swept = override.value()
        values: list[Any] = swept.list if isinstance(swept, ChoiceSweep) else []  # not a glob's, which Hydra lists
    else:
        values = [override.value()]
    for value in values:
        none = value in (None, "null", "")
        if none and group in NEEDED:
            raise InputError(f"{line}: a run needs one; type {group}=OPTION with one of {known}")
        if none and group in NONE and not (override.is_delete() and group in ("experiment", "sweep", "search")):
            raise InputError(f"{line}: for none, {NONE[group]}")
        if none and not override.is_delete():
            raise InputError(f"{line}: leave {group}= out, or type {group}=OPTION with one of {known}")
        if isinstance(value, str) and value.endswith(".yaml"):
            raise InputError(f"{line}: an option is named without .yaml; type {group}={value.removesuffix('.yaml')}")
        if isinstance(value, str) and value.startswith("_"):
            raise InputError(f"{line}: {value} is a part of other options; type {group}=OPTION with one of {known}")
        if value is not None and not isinstance(value, str | QuotedString):
            raise InputError(f"{line}: {_options(group, value, names(group))}")


def _check_hydra(line: str, override: Override) -> None:
    """Hydra takes a setting that is added to its own blocks and reads it nowhere."""
    first, *below = override.key_or_group.split(".")
    block, read = first, HydraConf
    for name in below if first == "hydra" and override.is_add() else ():
        if not is_dataclass(read):
            return
        known = kinds_of(read)
        if name not in known:
            near = nearest(name, known) if override.key_or_group == f"{block}.{name}" else None
            advice = f"type {block}.{near}={line.partition('=')[2]}" if near else "leave it out"
            raise InputError(f"{line}: there is no {block}.{name}, nothing reads it; {advice}")
        block, read = f"{block}.{name}", known[name]


def _options(group: str, option: object, known: Sequence[str]) -> str:
    near = SYNONYMS.get(f"{group}={option}") or nearest(option, known)
    option, listed = said_as(option), ", ".join(known)
    if near and len(known) > 12:
        return f"{group} has no option {option}; type {group}={near}, or see --help"
    advice = f"type {group}={near}, or another of" if near else f"type {group}=OPTION with one of"
    return f"{group} has no option {option}; {advice} {listed}"


def _unreadable(line: str) -> str:
    key, equals, value = line.partition("=")
    if not equals:
        if near := nearest(line, names("experiment")):
            return f"{line}: a setting is typed as KEY=VALUE; type experiment={near}"
        return f"{line}: a setting is typed as KEY=VALUE or GROUP=OPTION, as in seed=1 or experiment=diehl_fc"
    if re.fullmatch(r"[+~]*[\w.@/:-]+", key):
        expanded = os.path.expanduser(value)  # ~ of a home folder, which a shell leaves behind =
        closed = [f"{value}{end}" for start, end in (("[", "]"), ("{", "}"), ("(", ")"), ("${", "}")) if start in value]
        for better in (expanded, *closed, f'"{expanded}"'):
            try:
                OverridesParser.create().parse_override(f"{key}={better}")
            except HydraException:
                continue
            return f"{line}: the value cannot be read; type '{key}={better}'"
    return f"{line}: cannot be read; type KEY=VALUE, as in seed=1, with brackets and quotes closed"


def _line(key: str, overrides: Sequence[str]) -> str:
    """The override that names a key."""
    return next((line for line in overrides if line.partition("=")[0].lstrip("+~") == key.lstrip("+~")), key)


def _unknown(key: str, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]) -> str:
    line = _line(key, overrides)
    value = line.partition("=")[2] if "=" in line else "VALUE"
    swept = next((one for one in overrides if one.startswith(("sweep=", "search="))), None)
    if line == key and swept:  # nobody typed it
        experiment = next((one for one in overrides if one.startswith("experiment=")), "the network of the defaults")
        return f"{swept}: varies {key}, which {experiment} does not have; type another experiment, or leave {swept} out"
    others = [one for one in overrides if one != line and not _is_sweep(one)]
    chosen = [one for one in others if one.partition("=")[0].lstrip("+~").partition("@")[0] in groups()]
    try:
        cfg = compose([*chosen, *(one for one in others if "_target_" in one)])
    except (
        InputError,
        HydraException,
        OmegaConfBaseException,
    ):  # another mistake, or a file on a search path of one's own
        return f"{line}: there is no setting {key}; type --cfg job as well to see all"
    block, _, name = key.rpartition(".")
    group, _, option = key.rpartition("/")
    if _is_option(group, option):
        return f"{line}: there is no group {key}; type {group}={option}"
    if "/" in key and (near := nearest(key, groups())):
        return f"{line}: there is no group {key}; type {near}={value}"
    above, _, last = block.rpartition(".")
    parent = OmegaConf.select(cfg, above, throw_on_missing=False) if above else cfg
    if isinstance(parent, DictConfig) and last in parent and OmegaConf.is_interpolation(parent, last):
        origin = OmegaConf.to_container(parent, resolve=False)[last].strip("${}")  # type: ignore[call-overload, index]
        return f"{line}: {block} is that of {origin}; type {origin}.{name}={value}"
    if isinstance(parent, DictConfig) and last in parent and OmegaConf.select(cfg, block) is None and last != block:
        return f"{line}: {block} is null; type +{key}={value}"
    top = key.partition(".")[0]
    if "." in key and top in SETTINGS and OmegaConf.select(cfg, top, throw_on_missing=False) is None:
        return f"{line}: method={cfg.method.name} has no {top}; leave {key}= out"
    node = OmegaConf.select(cfg, block) if block else cfg
    takes: dict[str, Any] = {}
    if isinstance(node, DictConfig) and (target := OmegaConf.select(node, "_target_", throw_on_missing=False)):
        try:
            function = resolved_target(block, target)
        except InputError as error:
            return str(error)
        takes, takes_more = parameters(target, function)
        by_run = given_by_run(block, node, function, lambda path: OmegaConf.select(cfg, path, throw_on_missing=False))
        if name in by_run:
            return f"{line}: the run gives {name} to {target.rpartition('.')[2]} itself; {by_run[name]}"
        takes = {one: kind for one, kind in takes.items() if one not in by_run}
        if name in takes or (takes_more and not nearest(name, map(str, node), cutoff=0.8)):
            return f"{line}: not in the config of {block}, but a parameter of {target}; type +{key}={value}"
        if takes and not target.startswith("respike.") and not (set(map(str, node)) - {"_target_"}):
            return (
                f"{line}: {target} has no parameter {name}; type +{block}.NAME={value} with one of {', '.join(takes)}"
            )
    if having := _options_with(block, name, cfg, cutoff=1):
        return f"{line}: there is no setting {key} now; {having}"
    if exact := _synonym(key, value, cfg) or _endings(key, value, cfg):
        return f"{line}: there is no setting {key}; type {' or '.join(exact)}"
    siblings = [one for one in map(str, node) if not one.startswith("_")] if isinstance(node, DictConfig) else []
    if not block:  # an option of a group, or a setting
        siblings = [one for one in siblings if _is_option(one, value) or not isinstance(_raw(one, cfg), dict)]
    if near := nearest(name, [*siblings, *takes], cutoff=0.6 if block else 0.8):
        plus = "" if near in siblings else "+"
        better = f"{block}.{near}" if block else near
        return f"{line}: {block or 'the config'} has no setting {name}; type {plus}{better}={value}"
    if having := _options_with(block, name, cfg, cutoff=0.8):
        return f"{line}: there is no setting {key} now; {having}"
    if siblings and block:
        return f"{line}: there is no setting {key}; type {block}.NAME={value} with one of {', '.join(siblings)}"
    if block and (near := nearest(key, _keys(cfg, ""), cutoff=0.8)):
        return f"{line}: there is no setting {key}; type {near}={value}"
    return f"{line}: there is no setting {key}; type --cfg {'hydra' if top == 'hydra' else 'job'} as well to see all"


def _synonym(key: str, value: str, cfg: DictConfig) -> list[str]:
    """What to type for a key that has another name here."""
    block, _, name = key.rpartition(".")
    meant, _, said = SYNONYMS.get(name, "").partition("=")
    if not meant or (block and not meant.startswith(f"{block}.")):
        return []
    if meant in groups():
        return [f"{meant}={value if _is_option(meant, value) else 'OPTION'}"]
    there = OmegaConf.select(cfg, meant, throw_on_missing=False) is not None
    return [f"{meant}={said or value}"] if there else []


def _endings(key: str, value: str, cfg: DictConfig) -> list[str]:
    """What to type for a key of another block: every setting of this name, or that of the block with a near name."""
    block, _, name = key.rpartition(".")
    if not block and (
        found := [group for group in groups() if group.rpartition("/")[2] == name and _is_option(group, value)]
    ):
        return [f"{group}={value}" for group in found]
    tops = {key.partition(".")[0]} if key.startswith("hydra.") else set(map(str, cfg)) - {"hydra", "protocol"}
    ends = [one for one in _keys(cfg, "") if one.rpartition(".")[2] == name and one.partition(".")[0] in tops]
    ends = [one for one in ends if not name.startswith("_")]
    # A setting that refers to another one is set by that.
    ends = [one for one in ends if not re.fullmatch(r"\$\{\w[\w.]*\}", str(_raw(one, cfg)))] or ends
    if block and (near := nearest(key, ends, cutoff=0.8)):
        ends = [near]
    return [line for one in ends if (line := _as_typed(one, value, cfg))]


def _as_typed(key: str, value: str, cfg: DictConfig) -> str | None:
    """The override that gives a setting its value; of a block its _target_. None for a block that has none."""
    node = OmegaConf.select(cfg, key, throw_on_missing=False)
    if not isinstance(node, DictConfig) or value.startswith("{"):
        return f"{key}={value}"
    target = OmegaConf.select(node, "_target_", throw_on_missing=False)
    return f"{key}._target_={target.rpartition('.')[0]}.NAME" if isinstance(target, str) else None


def _is_option(group: str, values: str) -> bool:
    """Whether values, one or several, are options of a group."""
    return group in groups() and set(values.split(",")) <= set(names(group))


def _raw(key: str, cfg: DictConfig) -> Any:
    """What the config has for a key, with references as they are written."""
    value: Any = OmegaConf.to_container(cfg, resolve=False)
    for name in key.split("."):
        value = value[name]
    return value


def _is_sweep(line: str) -> bool:
    """Whether an override gives several values."""
    return OverridesParser.create().parse_override(line).is_sweep_override()


def _options_with(block: str, name: str, cfg: DictConfig, cutoff: float) -> str | None:
    """Which options of a group, among those that go with the method, have files with a setting of this or a near name."""
    group = block.replace(".", "/")
    listed = cfg.method.options.get(group, "all")
    chosen = [path for path in options(group) if listed == "all" or path.stem in listed] if group in groups() else []
    found = {path.stem: near for path in chosen if (near := nearest(name, map(str, OmegaConf.load(path)), cutoff))}
    if not found:
        return None
    named = "" if name in found.values() else f", named {next(iter(found.values()))}"
    return f"{' or '.join(f'{group}={option}' for option in found)} has it{named}"


def _keys(node: DictConfig, path: str) -> Iterator[str]:
    for name in map(str, node):
        key = f"{path}.{name}" if path else name
        yield key
        if OmegaConf.is_interpolation(node, name) or OmegaConf.is_missing(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from _keys(node[name], key)
