"""The file format of spiking networks: a state dict and a description of the layers in plain data.

A file holds one dict: "format", "version", "network" (the class), "description" and "weights" (the state dict), made of
dicts, lists, numbers, strings and tensors only. It is read by torch.load(weights_only=True): loading runs no code of the file.
"""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Embed, Pad, Scale, SignedMaxPool2d, Slice, Windows
from respike.errors import InputError
from respike.system.files import write_atomically

FORMAT = "respike spiking network"
VERSION = 1
SAVE_AGAIN = "convert the network again and save it with snn.save(path)"

ARGUMENTS: dict[type[nn.Module], tuple[str, ...]] = {  # constructor arguments of the modules in a spiking network
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.Conv2d: (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
    ),
    nn.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.Flatten: ("start_dim", "end_dim"),
    Scale: ("factor",),
    Embed: ("before", "channels", "after"),
    Pad: ("padding",),
    Slice: ("slices",),
    Windows: ("kernel_size", "stride", "padding", "dilation"),
    SignedMaxPool2d: ("pool", "sign"),
}  # fmt: skip
MODULE_TYPES = {module_type.__name__: module_type for module_type in ARGUMENTS}

Network = TypeVar("Network", bound="SavedNetwork")


class SavedNetwork(nn.Module):
    """A spiking network that can be written to a file and read from it."""

    def description(self) -> dict[str, Any]:
        """The layers and their arguments in plain data: dicts, lists, numbers and strings."""
        raise NotImplementedError

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """The network of a description, with weights on the default device that are not yet set."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike) -> None:
        """Write the network to a file, atomically: `path` holds the old content or all of the new one.

        Raises InputError for a layer that cannot be described in plain data.
        """
        content = network_content(self)
        with write_atomically(Path(path)) as temporary:
            torch.save(content, temporary)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu") -> Self:
        """Read the network from a file that `save` wrote, on the given device; no code of the file is run.

        Raises InputError for a file that is missing, damaged, of another kind, or holds pickled Python objects.
        """
        return network_from_content(read_content(path), [cls], str(path), device)


def describe_module(module: nn.Module, layer: str) -> dict[str, Any]:
    """The type and the constructor arguments of a module. layer: its place, for the error message.

    A subclass that computes what its base does is described as the base. Raises InputError for any other module.
    """
    for module_type, names in ARGUMENTS.items():
        if _computes_as(module, module_type):
            arguments = {name: _plain(name, getattr(module, name), layer) for name in names}
            return {"type": module_type.__name__, "arguments": arguments}
    raise InputError(
        f"layer '{layer}' holds a {type(module).__name__}, which cannot be saved; use one of {', '.join(MODULE_TYPES)}"
    )


def _computes_as(module: nn.Module, module_type: type[nn.Module]) -> bool:
    methods = ("forward", "_conv_forward")
    return isinstance(module, module_type) and all(
        getattr(type(module), name, None) is getattr(module_type, name, None) for name in methods
    )


def _plain(name: str, value: Any, layer: str) -> Any:
    """A constructor argument as plain data; for `bias`, whether there is one."""
    if name == "bias":
        return value is not None
    if isinstance(value, nn.Module):
        return describe_module(value, layer)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value


def build_module(description: dict[str, Any]) -> nn.Module:
    """The module of a description, in eval mode, its weights not yet set. Raises ValueError for an unknown type."""
    module_type = MODULE_TYPES.get(description["type"])
    if module_type is None:
        raise ValueError(f"unknown layer type {description['type']}; known are {', '.join(MODULE_TYPES)}")
    arguments = {name: _argument(value) for name, value in description["arguments"].items()}
    if module_type is SignedMaxPool2d:
        arguments["sign"] = torch.tensor(arguments["sign"])
    return module_type(**arguments).eval()


def _argument(value: Any) -> Any:
    if isinstance(value, dict):
        return build_module(value)
    return tuple(value) if isinstance(value, list) else value


def network_content(network: SavedNetwork) -> dict[str, Any]:
    """A spiking network as a dict of plain data and tensors (on the CPU): what `save` writes.

    Raises InputError for a network that could not be built again from it.
    """
    description = network.description()
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    with torch.device("meta"):
        rebuilt = type(network).from_description(description).state_dict()
    different = sorted(rebuilt.keys() ^ weights.keys())
    if different:
        raise InputError(
            f"'{different[0]}' is not a plain weight of its layer and cannot be saved; remove parametrizations and "
            "added parameters before converting"
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": type(network).__name__,
        "description": description,
        "weights": weights,
    }


def network_from_content(
    content: Any, network_types: Sequence[type[Network]], source: str, device: torch.device | str = "cpu"
) -> Network:
    """The spiking network of a content that `network_content` made, on a device, in eval mode, without gradients.

    network_types: the classes allowed; source: the file's name, for error messages. Raises InputError for a content that is
    foreign, of another version or class, or incomplete.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{source}: not a spiking network of respike (a state dict does not contain how layers are connected); {SAVE_AGAIN}"
        )
    if content.get("version") != VERSION:
        raise InputError(
            f"{source}: written in version {content.get('version')} of the format, and this respike reads version {VERSION}; "
            f"{SAVE_AGAIN}"
        )
    allowed = {network_type.__name__: network_type for network_type in network_types}
    network_type = allowed.get(str(content.get("network")))
    if network_type is None:
        raise InputError(
            f"{source}: holds a {content.get('network')}, not a {' or '.join(allowed)}; use load_snn(path)"
        )
    try:
        with torch.device("meta"):
            network = network_type.from_description(content["description"])
        network.load_state_dict(content["weights"], assign=True)
    except InputError as error:
        raise InputError(f"{source}: {error}; {SAVE_AGAIN}") from error
    except Exception as error:  # an incomplete description or state dict raises different errors in torch and Python
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{source}: the description or the weights are damaged ({type(error).__name__}: {reason}); {SAVE_AGAIN}"
        ) from error
    return network.to(device).eval().requires_grad_(False)


def read_content(path: str | os.PathLike) -> Any:
    """What a file of torch.save holds: plain data and tensors, on the CPU.

    Raises InputError for a file that is missing, damaged, or holds pickled Python objects.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; a spiking network is written by snn.save(path)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different error for each way in which a file can be broken
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise InputError(
                f"{path}: holds pickled Python objects, as older versions of respike wrote; they are not read, because that "
                f"would run code of the file; {SAVE_AGAIN}"
            ) from error
        raise InputError(
            f"{path}: damaged, or not a file of torch.save ({type(error).__name__}); {SAVE_AGAIN}"
        ) from error
