"""Weights from files that torch, Lightning or other trainers saved, and their match with a network.

No code of a file is run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from respike.errors import InputError
from respike.networks.standardize import Standardized

BELOW = ("state_dict", "model_state_dict", "model", "net")  # keys of a file's dict that hold the state dict
PREFIXES = ("module.", "_orig_mod.", "net.", "model.")  # nn.DataParallel, torch.compile, LightningModules
OPTIONAL = "num_batches_tracked"  # of batch norms; torch of before 2018 did not save it, and a test does not read it
MOST_NAMED = 3


def read_checkpoint(path: str | Path, setting: str, advice: str) -> dict[str, Any]:
    """The content of a .pt, .pth, .th, .ckpt or .safetensors file: a state dict, or a dict that holds one.

    setting: that named the file, for messages. advice: where such files come from. Raises InputError for a file that is
    missing, or that is not readable as plain tensors.
    """
    if not Path(path).is_file():
        raise InputError(f"{setting}={path}: no such file; {advice}")
    try:
        if Path(path).suffix == ".safetensors":
            content = _read_safetensors(path, setting)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        return dict(content)
    except InputError:
        raise
    except Exception as error:  # torch raises a different error for each way in which a file can be broken
        raise InputError(
            f"{setting}={path}: not a checkpoint, or a damaged one; a state dict is needed, as "
            "torch.save(net.state_dict(), FILE) writes it, or a Lightning checkpoint"
        ) from error


def _read_safetensors(path: str | Path, setting: str) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f"{setting}={path}: reading it needs the package safetensors; type pip install safetensors, or save the weights "
            "by torch.save(net.state_dict(), FILE)"
        ) from error
    return load_file(path)


def state_dict_of(content: Mapping[str, Any], line: str) -> dict[str, Tensor]:
    """The state dict in the content of a file. Raises InputError if there is none. line: the setting, for messages."""
    for key in BELOW:
        if isinstance(content.get(key), Mapping):
            return state_dict_of(content[key], line)
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError(f"{line}: holds no weights ({_listed(map(str, content))}); a state dict is needed")
    return weights


def give_state_dict(net: nn.Module, weights: Mapping[str, Tensor], line: str) -> None:
    """Load weights into a network, whatever DataParallel, torch.compile or a LightningModule put before their names.

    A network behind data.mean and data.std takes weights of itself alone, too. Raises InputError, which names the first
    tensors that are missing, unexpected or of another shape, for weights of another network.
    """
    weights = _fitting(weights, net)
    broken = not_finite(net, weights)
    if broken is not None:
        raise InputError(f"{line}: {broken} holds nan or inf; type another file")
    if isinstance(net, Standardized):
        if not any(name.startswith("standardize.") for name in weights):
            give_state_dict(net.net, weights, line)
            return
        _check_pixels(net, weights, line)
    own = net.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith(OPTIONAL)]
    unexpected = [name for name in weights if name not in own and not name.endswith(OPTIONAL)]
    shapes = [
        f"{name} is {_shape(weights[name])}, the network's {_shape(value)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    reasons = [f"it lacks {_listed(missing)}"] if missing else []
    reasons += [f"it has {_listed(unexpected)}, which the network has not"] if unexpected else []
    reasons += [f"its {'; '.join(shapes[:MOST_NAMED])}{_more(shapes)}"] if shapes else []
    if reasons:
        pixels = any(name.startswith("standardize.") for name in unexpected)
        advice = (
            "data.mean= and data.std= of its training" if pixels else "model= and the settings of the file's network"
        )
        raise InputError(f"{line}: the weights are of another network: {'; '.join(reasons)}; type {advice}")
    known = {name: value for name, value in weights.items() if name in own}
    net.load_state_dict(own | known)


def not_finite(net: nn.Module, weights: Mapping[str, Any]) -> str | None:
    """The name of the first of the network's weights and running averages that holds nan or inf, None if all are finite.

    weights: a state dict of the network. Other buffers may hold inf, as an attention mask does.
    """
    parameters = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    for name, value in weights.items():
        trained = name in parameters or name.rpartition(".")[2] in ("running_mean", "running_var")
        if trained and isinstance(value, Tensor) and not value.isfinite().all():
            return name
    return None


def _fitting(weights: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The weights without the prefixes that all their names share, as many as make most names the network's."""
    own = set(net.state_dict())
    if isinstance(net, Standardized):
        own |= set(net.net.state_dict())
    found = [dict(weights)]
    while shared := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in found[-1])]:
        found.append({name.removeprefix(shared[0]): value for name, value in found[-1].items()})
    return max(reversed(found), key=lambda candidate: len(own.intersection(candidate)))


def _check_pixels(net: Standardized, weights: Mapping[str, Tensor], line: str) -> None:
    """The weights were trained with the mean and deviation that the network has. Raises InputError if not."""
    for setting, name in (("mean", "running_mean"), ("std", "running_var")):
        own, saved = getattr(net.standardize, name), weights.get(f"standardize.{name}")
        if saved is not None and not (saved.shape == own.shape and torch.allclose(saved, own, rtol=1e-4)):
            numbers = [round(number, 6) for number in (saved if setting == "mean" else saved.sqrt()).tolist()]
            raise InputError(f"{line}: the network was trained with other pixels; type data.{setting}={numbers}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _listed(names: "Iterator[str] | list[str]") -> str:
    names = list(names)
    return ", ".join(names[:MOST_NAMED]) + _more(names)


def _more(names: list[str]) -> str:
    return f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
