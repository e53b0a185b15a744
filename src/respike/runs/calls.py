"""What blocks with a `_target_` call: the parameters, which of them the run gives itself, and the check of a block's keys."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

import torch
import wandb
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from torch import nn

from respike.errors import InputError
from respike.networks.qcfs import ACTIVATION
from respike.neurons.encode import Encoder
from respike.neurons.neuron import Neuron
from respike.neurons.surrogate import Surrogate
from respike.runs.kinds import accepts, allowed, nearest, said_as
from respike.simulate.rate.settings import Settings
from respike.simulate.ttfs.settings import TTFSSettings
from respike.training.classifier import Classifier

RESERVED = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
KEYWORDS: dict[str, Callable[..., Any]] = {  # callable -> what takes its **keywords
    "respike.simulate.rate.layerwise.simulate": Settings,
    "respike.simulate.ttfs.simulate_ttfs": TTFSSettings,
    "respike.simulate.ttfs.evaluate.simulate_ttfs": TTFSSettings,
    "respike.training.spike_time_classifier.SpikeTimeClassifier": Classifier,
    "pytorch_lightning.loggers.WandbLogger": wandb.init,
}
BASES = {  # block -> the base class of what it names, unless it names a function
    "data": LightningDataModule,
    "model": nn.Module,
    "lit": LightningModule,
    "neuron": Neuron,
    "neuron.surrogate": Surrogate,
    "encode": Encoder,
    "trainer": Trainer,
    "logger": Logger,
    "recipe.optimizer": torch.optim.Optimizer,
}
GIVEN: dict[str, tuple[str, int, dict[str, str]]] = {
    # block -> the block that calls it, how many arguments it gives in order, and by name, each with what to type instead
    "trainer": ("", 0, {"callbacks": "type +callbacks.NAME={_target_:package.Class}", "logger": "type logger=none"}),
    "lit": ("", 0, {"net": "type model=OPTION"}),
    "data.dataset": ("data", 0, {"root": "type data.root=FOLDER"}),
    "data.train_transform": ("data", 1, {}),
    "recipe.transform": ("data", 1, {}),
    "recipe.loss": ("lit", 2, {}),
    "recipe.optimizer": ("lit", 1, {}),
    "recipe.scheduler": ("lit", 2, {}),
    "recipe.init": ("lit", 1, {}),
    "convert": ("callbacks.convert", 2, {}),
    "convert.norm": ("convert", 2, {}),
    "convert.norm.norm": ("convert.norm", 2, {}),
    "convert.simulate": ("convert", 2, {}),
    "simulate": ("callbacks.simulate", 2, {"index": "leave it out", "progress": "leave it out"}),
}


def resolved_target(path: str, target: Any) -> Any:
    """The callable that a `_target_` names. Raises InputError, with the nearest name, for anything else."""
    given = f"{path}._target_={said_as(target)}"
    if not isinstance(target, str) or "." not in target:
        raise InputError(f"{given}: a callable is named by its module; type {path}._target_=package.name")
    try:
        found = pkgutil.resolve_name(target)
    except Exception as error:  # the import runs the module, which may be a user's
        module, _, name = target.rpartition(".")
        try:
            near = nearest(name, dir(pkgutil.resolve_name(module)))
        except Exception:
            near = None
        advice = f"{path}._target_={module}.{near}" if near else f"{path}._target_=package.name"
        reason = " ".join(str(error).split())
        raise InputError(f"{given}: cannot be imported ({reason}); type {advice}") from error
    if not callable(found):
        raise InputError(f"{given}: not callable; type a class or a function, as in {path}._target_=package.name")
    return found


def parameters(target: str, function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The parameters that a callable takes by name, with their annotations, and whether it takes any other keyword."""
    names: dict[str, Any] = {}
    open_ = False
    for one in (function, KEYWORDS.get(target)):
        if one is None:
            continue
        try:
            listed = inspect.signature(one).parameters.values()
        except (TypeError, ValueError):  # of a callable that is compiled
            return names, True
        hints = _hints(one)
        names |= {p.name: hints.get(p.name, Any) for p in listed if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        open_ = target not in KEYWORDS and any(p.kind == p.VAR_KEYWORD for p in listed)
    return names, open_


@cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        called = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
        return get_type_hints(called, include_extras=True)
    except Exception:  # annotations that cannot be evaluated say nothing
        return {}


def check_call(path: str, block: Mapping[str, Any], content: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """A block names a callable, and its keys are parameters of it, of the types that it declares."""
    target = block["_target_"]
    function = resolved_target(path, content.get(f"{path}._target_", target))
    base = BASES.get(path)
    if base and isinstance(function, type) and not issubclass(function, base):
        raise InputError(f"{path}._target_={target}: no {base.__name__}; type the class of one, or leave it out")
    takes, takes_more = parameters(target, function)
    by_run = given_by_run(path, block, function, content.get)
    known = [name for name in takes if name not in by_run]
    called = target.rpartition(".")[2]
    unknown = [
        name
        for name in block
        if name not in (*RESERVED, *takes) and not takes_more and not (path == "model" and name in ACTIVATION)
    ]
    for name in block:
        key = f"{path}.{name}"
        value = content.get(key)
        line = given.get(key, f"{key}={said_as(value)}")
        if name in by_run:
            raise InputError(f"{line}: the run gives {name} to {called} itself; {by_run[name]}")
        if name in unknown:
            near = nearest(name, known)
            plus = "" if near in block else "+"
            advice = (
                f"{plus}{path}.{near}={said_as(value)}"
                if near
                else f"{'+' * (key in given)}{path}.NAME={said_as(value)} with one of {', '.join(known)}"
            )
            if not known:
                advice = f"~{key}"
            if key not in given and (chosen := _chosen_by(path, given)):
                line = chosen
                advice = f"{' '.join(f'~{path}.{one}' for one in unknown if f'{path}.{one}' not in given)} as well"
            raise InputError(f"{line}: {called} has no parameter {name}; type {advice}")
        if name in RESERVED or name not in takes:
            continue
        kind = takes[name]
        if key in content and not isinstance(value, Mapping) and allowed(kind) and not accepts(kind, value):
            raise InputError(f"{line}: {allowed(kind)} is needed by {called}; type {key}=VALUE of that kind")
    missing = [name for name in _required(function) if name not in block]
    if missing and not block.get("_partial_") and path != "lit":  # its net is given by `train`
        if missing[0] in given_by_run(path, {**block, "_partial_": True}, function, content.get):
            line = given.get(f"{path}._partial_") or _chosen_by(path, given) or f"{path}._target_={target}"
            plus = "" if "_partial_" in block else "+"
            raise InputError(f"{line}: the run gives {missing[0]} to {called} itself; type {plus}{path}._partial_=true")
        raise InputError(f"{path}._target_={target}: {missing[0]} is missing; type +{path}.{missing[0]}=VALUE")


def given_by_run(
    path: str, block: Mapping[Any, Any], function: Callable[..., Any], lookup: Callable[[str], Any]
) -> dict[str, str]:
    """The parameters that the run gives to what a block names, each with what to do instead of typing it.

    lookup: key of the config -> its value. None are given by code that is not of respike, which may call it in other ways.
    """
    caller, count, named = GIVEN.get(path, ("", 0, {}))
    if caller and not str(lookup(f"{caller}._target_") or "respike.").startswith("respike."):
        return {}
    if not block.get("_partial_") or "_args_" in block:
        count = 0
    try:
        listed = list(inspect.signature(function).parameters.values())[:count] if count else []
    except (TypeError, ValueError):  # of a callable that is compiled
        listed = []
    in_order = (p.name for p in listed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    return dict.fromkeys(in_order, "leave it out") | named


def _chosen_by(path: str, given: Mapping[str, str]) -> str | None:
    """The typed line that chose what a block names, as its _target_, as a whole or by the option of a group."""
    block = path
    while block:
        own = [f"{block}._target_", block, block.replace(".", "/")]
        own += [key for key in given if key.endswith(f"@{block}")]
        if line := next((given[key] for key in own if key in given), None):
            return line
        block = block.rpartition(".")[0]
    return None


def _required(function: Callable[..., Any]) -> list[str]:
    """The parameters without a default."""
    try:
        listed = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a callable that is compiled
        return []
    return [p.name for p in listed if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
