"""The jobs of a multirun: which ones a grid has, and what is refused before the first one starts."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from respike.errors import InputError
from respike.runs.calls import parameters, resolved_target
from respike.runs.kinds import said_as
from respike.runs.old_names import check_words

OPTIONAL = {  # class of hydra.launcher or hydra.sweeper -> what selects it, and the module that it needs
    "JoblibLauncher": ("hydra/launcher=joblib", "hydra_plugins.hydra_joblib_launcher"),
    "SlurmLauncher": ("hydra/launcher=submitit_slurm", "hydra_plugins.hydra_submitit_launcher"),
    "OptunaSearch": ("hydra/sweeper=optuna", "optuna"),
}


def check_grid(overrides: Sequence[str], params: dict[str, str] | None) -> None:
    """Raise InputError for a sweep that varies nothing, values that no grid has, or an old name in the sweeper's parameters."""
    listed = [f"{key}={values}" for key, values in (params or {}).items()]
    check_words(listed)
    for line in (*listed, *overrides):
        _texts(line)
    parsed = _parsed(overrides)
    for override in parsed:
        if override.value() == "":
            raise InputError(f"{override.input_line}: no value to sweep over; as in {override.key_or_group}=0.5,1,2")
    if not params and not any(override.is_sweep_override() for override in parsed):
        raise InputError(
            "a sweep needs something to vary: give several values, as in neuron.threshold=0.5,1,2, or a named sweep, "
            "as in sweep=threshold_rate"
        )


def check_places(keys: Sequence[str], unnamed: Sequence[str], typed: Sequence[str]) -> None:
    """Raise InputError for jobs that would share a folder. keys: what varies; unnamed: keys that a job's name leaves out.

    typed: all overrides. The folder of an experiment's jobs has its name, unless a name or a folder is typed. Jobs that share a
    folder for other reasons fail: see `SweepReport`.
    """
    given = {word.lstrip("+").partition("=")[0]: word for word in typed}
    if "paths.run" in given:
        raise InputError(
            "paths.run: every job has a folder of its own; type paths.outputs=FOLDER, name=NAME or sweep_name=NAME"
        )
    if "${" not in (subdir := given.get("hydra.sweep.subdir", "${")):
        raise InputError(f"{subdir}: the jobs would share a folder; type hydra.sweep.dir=FOLDER")
    for key in keys:
        if key == "experiment" and "${" not in (folder := given.get("hydra.sweep.dir", "${")):
            raise InputError(
                f"{folder}: the jobs of several experiments would share a folder; type paths.outputs=FOLDER"
            )
        if key == "experiment" and "name" in given:
            raise InputError("name: the jobs of several experiments would share a folder; leave name= out")
        if key != "experiment" and key in unnamed:
            raise InputError(f"{key}: several values would share a folder; type one value in each command")


def check_sweeper(sweeper: DictConfig, choices: Mapping[str, str | None]) -> None:
    """Raise InputError for a setting that the sweeper does not take, for no grids, and for a sweep that is a search as well.

    choices: config group -> chosen option.
    """
    if choices.get("sweep") and choices.get("search"):
        raise InputError(
            f"sweep={choices['sweep']} search={choices['search']}: a grid or a search; leave one of them out"
        )
    takes, takes_more = parameters(sweeper._target_, resolved_target("hydra.sweeper", sweeper._target_))
    for name in map(str, sweeper):
        if name not in takes and not name.startswith("_") and not takes_more:
            raise InputError(
                f"hydra.sweeper.{name}={said_as(sweeper[name])}: hydra/sweeper={choices.get('hydra/sweeper')} has no setting "
                f"{name}; type hydra.sweeper.NAME=VALUE with one of {', '.join(takes)}"
            )
    if "grids" in sweeper and not sweeper.grids:
        raise InputError("hydra/sweeper=grids: there are no grids; type a sweep that has some, as sweep=latency")


def check_installed(target: str) -> None:
    """Raise InputError if the optional package of a launcher or sweeper is not installed. target: its _target_."""
    choice, module = OPTIONAL.get(target.rpartition(".")[2], ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise InputError(f"{choice} needs {module}, which is not installed: pip install 'respike[cluster]'")


def varied(overrides: Sequence[str], params: Mapping[str, Any] | None) -> dict[str, int]:
    """The keys that a sweep varies, each with its number of values; 0 for one that cannot be counted, as an interval.

    overrides: as typed. params: of the sweeper; a typed key replaces the same key of params.
    """
    given = [*(f"{key}={values}" for key, values in (params or {}).items()), *overrides]
    last = {override.get_key_element(): override for override in _parsed(given)}
    return {key: _values(override) for key, override in last.items() if override.is_sweep_override()}


def grid_jobs(grids: Sequence[Mapping[str, Any]], overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job of several grids, each job once. grids: key -> values as they are typed, "1,2" or "range(3)".

    overrides: as typed. If all typed values of a key are among those that the grids list for it, they choose the jobs that have
    one of them. Otherwise they replace the listed ones, and hold for every grid that has no such key, too.
    """
    listed = [{key: _texts(f"{key}={values}") for key, values in grid.items()} for grid in grids]
    typed = {override.split("=")[0]: _texts(override) for override in overrides}
    bare = {key: {_bare(value) for value in values} for key, values in typed.items()}
    known = {key: {_bare(value) for grid in listed for value in grid.get(key, ())} for key in typed}
    chosen = {key for key in typed if known[key] and known[key].issuperset(bare[key])}
    jobs: dict[tuple[str, ...], None] = {}
    for grid in listed:
        values = {key: typed[key] if key in typed and key not in chosen else of for key, of in grid.items()}
        for key in typed:
            fewer = [value for value in grid.get(key, ()) if _bare(value) in bare[key]]
            values[key] = fewer if key in chosen else typed[key]
        jobs |= dict.fromkeys(itertools.product(*([f"{key}={value}" for value in of] for key, of in values.items())))
    if not jobs:
        raise InputError(f"{' '.join(overrides)}: the sweep has no job with all of these values; leave one of them out")
    return [list(job) for job in jobs]


def _texts(line: str) -> list[str]:
    """The values of an override, one or several, as they are typed. Raises InputError for an interval and for no value."""
    (override,) = _parsed([line])
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_interval_sweep():
        raise InputError(
            f"{line}: an interval is for a search, as search=accuracy_at_latency; type values, as in "
            f"{override.key_or_group}=0.5,1,2"
        )
    if not (values := list(override.sweep_string_iterator())):
        raise InputError(f"{line}: there is no such value; type the values, as in {override.key_or_group}=A,B")
    return values


def _parsed(lines: Sequence[str]) -> list[Override]:
    """Overrides, whose globs list the options that this multirun has."""
    hydra = GlobalHydra.instance()
    return OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None).parse_overrides(
        list(lines)
    )


def _bare(value: str) -> str:
    """A value without the quotes that it may be typed in."""
    return value.strip("'\"")


def _values(override: Override) -> int:
    try:
        return len(list(override.sweep_string_iterator()))
    except HydraException:  # an interval
        return 0
