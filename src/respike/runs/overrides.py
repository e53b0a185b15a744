"""Overrides as a person types them, KEY=VALUE or GROUP=OPTION: mistakes are answered in one line, with the nearest name."""

import os
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from respike.errors import InputError
from respike.runs.check import kinds_of, wrong
from respike.runs.conf import groups, names
from respike.runs.kinds import accepts, allowed, nearest, said_as
from respike.runs.old_names import check_words
from respike.runs.settings import SETTINGS
from respike.runs.unknown_key import SYNONYMS, unknown_key

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
        return unknown_key(found[1], _line(found[1], overrides), overrides, compose)
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
