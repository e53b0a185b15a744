"""The check of a composed config against the table of settings; `calls` checks what its blocks name."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning.accelerators import AcceleratorRegistry

from respike.errors import InputError
from respike.metrics.energy import EnergyModel
from respike.runs.calls import check_call, resolved_target
from respike.runs.kinds import LARGEST, accepts, allowed, choices, nearest, said_as
from respike.runs.settings import SETTINGS
from respike.system.cache import source_hash

LIBRARIES = ("respike.", "hydra.", "hydra_plugins.", "torch.", "pytorch_lightning.")  # whose settings are in the table
VERSIONED = ("torchvision.", "lightning.", "wandb.", "datetime.")  # other packages that are no code of a user's own
MOST_STEPS = 1_000_000  # of a simulation


def check_settings(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Raise InputError for a setting of the wrong type or out of range, before anything is built.

    The message says what was given, what is allowed and what to type. typed: the overrides of the command line.
    """
    given = dict(_key_and_line(line) for line in typed)
    content = dict(_values(cfg, given=given))
    for block, settings in SETTINGS.items():
        if block in content or not block:
            _check_block(content, block, settings, given)
    for path, value in sorted(
        content.items(), key=lambda item: not any(f"{key}.".startswith(f"{item[0]}.") for key in given)
    ):
        if isinstance(value, Mapping) and "_target_" in value:
            check_call(path, value, content, given)
        elif path.startswith(("callbacks.", "recipe.optimizer")) and path.count(".") == 1 and value is not None:
            raise InputError(f"{_given(path, value, given)}: a block with a _target_, or null, as in {path}=null")
    _check_needed(content, given)
    _check_clock(content, given)
    _check_energy(content)
    _check_read(cfg, content, given)


def check_multirun(cfg: DictConfig) -> None:
    """Raise InputError for a wrong setting of hydra.launcher or hydra.sweeper, and for values of a group that are no options.

    cfg: the config with the block hydra.
    """
    given = dict(_key_and_line(line) for line in cfg.hydra.overrides.hydra)
    for block in ("hydra.launcher", "hydra.sweeper"):
        content = dict(_values(cfg, block))
        _check_block(content, block, SETTINGS[block], given)
    params = [f"{key}={values}" for key, values in (cfg.hydra.sweeper.get("params") or {}).items()]
    for override in OverridesParser.create().parse_overrides([*params, *cfg.hydra.overrides.task]):
        if isinstance(override.value(), ChoiceSweep):
            _check_choices(cfg, override)


def _check_choices(cfg: DictConfig, override: Override) -> None:
    """The values that a sweep or a search gives a group are options of it, on the search path of the configs."""
    sources = [source for source in cfg.hydra.runtime.config_sources if source.provider not in ("hydra", "schema")]
    group = override.key_or_group
    folders = [Path(source.path, group) for source in sources]
    if any(source.schema != "file" for source in sources) or not any(folder.is_dir() for folder in folders):
        return
    for value in override.sweep_string_iterator():
        if not any(Path(folder, f"{value}.yaml").is_file() for folder in folders):
            known = sorted({path.stem for folder in folders for path in folder.glob("[!_]*.yaml")})
            near = nearest(value, known)
            advice = f"type {near} in its place" if near else f"type one of {', '.join(known)}"
            raise InputError(f"{override.input_line}: {group} has no option {value}; {advice}")


def own_code(cfg: DictConfig) -> list[str]:
    """Hashes of what a config names that is not of respike or its libraries, and what its callbacks from elsewhere are.

    A training, a conversion or a measurement is kept only as long as these are the same.
    """
    content = dict(_values(cfg))
    known = (*LIBRARIES, *VERSIONED)
    targets = {target for target in _named(list(content.values())) if not target.startswith(known)}
    callbacks = {
        f"{key}: {value}"
        for key, value in content.items()
        if re.fullmatch(r"callbacks\.\w+", key)
        and isinstance(value, Mapping)
        and not str(value.get("_target_")).startswith("respike.")
    }
    return [*(source_hash(resolved_target(target, target)) for target in sorted(targets)), *sorted(callbacks)]


def _named(node: Any) -> Iterator[str]:
    """Every `_target_` in blocks and lists."""
    if isinstance(node, Mapping) and isinstance(node.get("_target_"), str):
        yield node["_target_"]
    for inner in node.values() if isinstance(node, Mapping) else node if isinstance(node, list | ListConfig) else ():
        yield from _named(inner)


def check_machine(cfg: DictConfig) -> None:
    """Raise InputError for a device, a file or weights that are not there, and for settings that these rule out."""
    accelerator = cfg.trainer.get("accelerator", "auto")
    name = {"gpu": "mps" if torch.backends.mps.is_available() else "cuda"}.get(accelerator, accelerator)
    try:
        available = name == "auto" or AcceleratorRegistry.get(name).is_available()
    except ModuleNotFoundError:  # torch_xla, for a TPU
        available = False
    if not available:
        raise InputError(f"trainer.accelerator={accelerator}: this machine has none; type trainer.accelerator=cpu")
    if cfg.ckpt_path and not Path(cfg.ckpt_path).is_file():
        what = "a folder" if Path(cfg.ckpt_path).is_dir() else "no such file"
        raise InputError(
            f"ckpt_path={cfg.ckpt_path}: {what}; a run keeps its weights in its folder, as checkpoints/ann.pt or weights.pt"
        )
    weights = cfg.train or cfg.ckpt_path or cfg.get("start") or "path" in cfg.model  # of a user's class, its own
    if not weights and not cfg.recipe.epochs and cfg.model._target_.startswith("respike."):
        raise InputError("train=false without weights: type ckpt_path=FILE, or recipe=custom random_weights=true")
    if cfg.train and cfg.recipe.epochs and cfg.trainer.max_epochs == 0:
        raise InputError("trainer.max_epochs=0: nothing is trained; type train=false, or a number from 1 up")
    if cfg.train and cfg.trainer.get("limit_val_batches") == 0 and (cfg.recipe.patience or cfg.recipe.keep == "best"):
        raise InputError(
            "trainer.limit_val_batches=0: nothing is validated, by which the recipe stops or keeps the best epoch; "
            "type recipe.patience=null recipe.keep=last"
        )
    if cfg.get("start") and not cfg.ckpt_path:
        _check_start(cfg)


def _check_start(cfg: DictConfig) -> None:
    """The experiment that a run starts from is trained in one process, with the data of paths.data."""
    processes = os.environ.get("SLURM_NTASKS") or os.environ.get("WORLD_SIZE") or "1"
    if int(processes) > 1 and cfg.trainer.get("devices") not in (1, "1"):
        raise InputError(
            f"start={cfg.start}: is trained in one process, and the scheduler started {processes}; run experiment={cfg.start} "
            "first, and type ckpt_path= of its checkpoints/ann.pt"
        )
    reader = str(OmegaConf.select(cfg, "data.dataset._target_")).rpartition(".")[2]
    if reader in ("mnist", "fashion_mnist") and cfg.data.root != cfg.paths.data:
        raise InputError(
            f"data.root={cfg.data.root}: start={cfg.start} reads paths.data; type paths.data={cfg.data.root}"
        )


@cache
def kinds_of(settings: type) -> dict[str, Any]:
    """The settings of one class of the table, with their kinds."""
    return get_type_hints(settings, include_extras=True)


def wrong(key: str, value: Any, kind: Any, example: Any, given: str | None = None) -> str:
    """The line for a value that is not of the kind of its setting. given: as it was typed."""
    near = nearest(value, choices(kind)) if isinstance(value, str) else None
    if isinstance(value, int | float) and accepts(kind, str(value)):  # a number, where a text is needed
        near = f"'\"{said_as(value)}\"'"
    above = isinstance(value, int) and value > LARGEST
    most = f" (at most {LARGEST})" if above and accepts(kind, LARGEST) and not accepts(kind, LARGEST + 1) else ""
    return f"{given or f'{key}={said_as(value)}'}: {allowed(kind)}{most}, as in {key}={near or said_as(example)}"


def _values(
    cfg: DictConfig, block: str = "", given: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Any]]:
    """(key, value) of every key of a block, blocks before what is in them. What only Hydra can resolve is left out.

    Raises InputError for a key without a value, and for a reference to a key that does not exist. References to a key are
    followed here: OmegaConf takes a millisecond for each. given: key -> the override that was typed for it.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)

    def walk(node: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            key = f"{path}.{name}" if path else str(name)
            written, seen = value, {key}
            while isinstance(value, str) and (found := re.fullmatch(r"\$\{(\w[\w./]*)\}", value)):
                if found[1] in seen:
                    raise InputError(f"{key}={written}: {found[1]} refers to itself; type {key}=VALUE")
                seen.add(found[1])
                value = _lookup(raw, found[1])
                if value is None and _lookup(raw, found[1], "absent") == "absent":
                    if (line := given.get(found[1], given.get(found[1].replace(".", "/"), ""))).startswith("~"):
                        raise InputError(f"{line}: {key} refers to it; leave {line} out")
                    raise InputError(f"{key}={written}: Interpolation key '{found[1]}' not found; type {key}=VALUE")
            if value == "???":
                raise InputError(f"{key}=???: no value is given; type {key}=VALUE")
            if "${" in str(value) and not isinstance(value, Mapping):
                if "${hydra:" in str(value):
                    continue
                chosen = OmegaConf.select(cfg, key)
                value = OmegaConf.to_container(chosen, resolve=True) if isinstance(chosen, ListConfig) else chosen
            yield key, value
            if isinstance(value, Mapping):
                yield from walk(value, key)

    yield from walk(_lookup(raw, block) if block else raw, block)  # type: ignore[arg-type]


def _lookup(raw: Any, key: str, default: Any = None) -> Any:
    for name in key.split("."):
        if not isinstance(raw, Mapping) or name not in raw:
            return default
        raw = raw[name]
    return raw


def _check_block(content: Mapping[str, Any], block: str, settings: type, given: Mapping[str, str]) -> None:
    prefix = f"{block}." if block else ""
    target = content.get(f"{prefix}_target_")
    if isinstance(target, str) and not target.startswith(LIBRARIES):
        return
    for name, kind in kinds_of(settings).items():
        key = prefix + name
        value = content.get(key)
        if isinstance(value, Mapping):  # its values with references followed
            value = {name: content.get(f"{key}.{name}", one) for name, one in value.items()}
        if key in content and not accepts(kind, value):
            raise InputError(wrong(key, value, kind, getattr(settings, name), given.get(key)))


def _check_needed(content: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """The figures need the simulation, which needs the conversion where the method has one."""
    needs = ["callbacks.convert"] if content.get("method.name") in ("rate", "ttfs") else []
    for key in ("callbacks.simulate", "callbacks.figures"):
        absent = next((name for name in needs if content.get(name) is None), None)
        if absent and content.get(key) is not None:
            raise InputError(f"{given.get(absent, f'{absent}=null')}: {key} needs it; type {key}=null as well")
        needs.append(key)


def _check_clock(content: Mapping[str, Any], given: Mapping[str, str]) -> None:
    dt, duration = content.get("simulate.dt"), content.get("simulate.duration")
    if dt is None or duration is None:
        return
    line = given.get("simulate.duration") or given.get("simulate.dt") or f"simulate.duration={duration}"
    if duration < dt:
        raise InputError(f"{line}: at least one step of {dt} s is needed, as in simulate.duration=0.04")
    if duration / dt > MOST_STEPS:
        raise InputError(
            f"{line}: {duration / dt:.3g} steps of {dt} s, {MOST_STEPS:,} are possible; seconds are given, as in "
            "simulate.duration=0.04"
        )
    steps = round(duration / dt) + bool(content.get("simulate.start_at_zero"))
    read_from = content.get("simulate.read_from") or 0
    if read_from >= steps:
        line = given.get("simulate.read_from") or f"simulate.read_from={read_from}"
        raise InputError(
            f"{line}: of {steps} steps, 0 to {steps - 1} can be left out of the read-out; type simulate.read_from={steps - 1} "
            "or less, or a longer simulate.duration"
        )


def _check_energy(content: Mapping[str, Any]) -> None:
    """The energy model checks its tables when it is made, which a run does after it has read its data."""
    if content.get("energy._target_") == f"{EnergyModel.__module__}.{EnergyModel.__qualname__}":
        EnergyModel(**{field.name: content[f"energy.{field.name}"] for field in dataclasses.fields(EnergyModel)})


def _check_read(cfg: DictConfig, content: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """A key that is added by + outside of a call is read by the code or by another key."""
    text = None
    for key, line in given.items():
        if not line.startswith("+") or key not in content or key in SETTINGS:
            continue
        parts = key.split(".")
        above = [".".join(parts[:count]) for count in range(1, len(parts))]
        if any(f"{block}._target_" in content for block in above) or any(map(_is_setting, (*above, key))):
            continue
        text = text or "\n".join((OmegaConf.to_yaml(cfg, resolve=False), *given.values()))
        referred = [rf"[{{:]{re.escape(block)}[,}}]" for block in above] + [rf"[{{:]{re.escape(key)}[,}}.]"]
        if any(re.search(one, text) for one in referred):
            continue
        better = _better(key, content)
        value = line.partition("=")[2]
        advice = f"type {better}={value}" if better else "leave it out, or refer to it by ${" + key + "}"
        raise InputError(f"{line}: no such setting, nothing reads it; {advice}")


def _is_setting(key: str) -> bool:
    """Whether the code reads a key by its name: one of the table, or a callback."""
    block, _, name = key.rpartition(".")
    return block == "callbacks" or (block in SETTINGS and name in kinds_of(SETTINGS[block]))


def _better(key: str, content: Mapping[str, Any]) -> str | None:
    """The setting that a mistyped key probably means, with + if the config has none yet."""
    block, _, name = key.rpartition(".")
    blocks = [path for path, value in content.items() if isinstance(value, Mapping) and path != block]
    if block and block not in SETTINGS:
        block, names = nearest(block, blocks) or "", [name]
    else:
        names = list(kinds_of(SETTINGS[block]))
    near = nearest(name, names)
    better = f"{block}.{near}" if block else near
    if near is not None and better in content:
        return better
    return f"+{better}" if near is not None and block == key.rpartition(".")[0] else None


def _key_and_line(line: str) -> tuple[str, str]:
    return line.partition("=")[0].lstrip("+~"), line


def _given(key: str, value: Any, given: Mapping[str, str]) -> str:
    return given.get(key, f"{key}={said_as(value)}")
