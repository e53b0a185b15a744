"""Weights from Keras .h5 files, as Stanojevic et al. 2023 publish theirs.

Keras keeps kernels as (height, width, in, out), linear weights as (in, out), and flattens maps channel-last.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from respike.errors import InputError

SOURCE = "the authors publish theirs beside github.com/IBM/exact-mapping-ReLUnetwork-SNN"
LOADED = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)


def load_keras(path: str | Path | None, net: nn.Module, input_shape: Sequence[int] = (1, 28, 28)) -> nn.Module:
    """The network with the weights of a Keras file (`save_weights`, or `save` in the h5 format), in eval mode.

    net: one whose Conv2d, Linear and BatchNorm modules come in the order of the file's layers, run on images of input_shape
    (C, H, W) to learn which linear layer reads flattened maps. Raises InputError for a file that is missing, or of another net.
    """
    groups = _read(path)
    layers = [m for m in net.modules() if isinstance(m, LOADED) and (m.weight is not None)]
    if len(layers) != len(groups):
        raise InputError(
            f"model.path={path}: {len(groups)} layers with weights ({', '.join(groups)}), but the network has {len(layers)}"
        )
    maps = _flattened_maps(net.eval(), input_shape)
    for layer, (name, arrays) in zip(layers, groups.items(), strict=True):
        for parameter, value in _pairs(layer, arrays, maps.get(layer), f"model.path={path}: layer {name}"):
            if parameter.shape != value.shape:
                raise InputError(
                    f"model.path={path}: layer {name} has the shape {tuple(value.shape)}, the network's "
                    f"{type(layer).__name__} {tuple(parameter.shape)}"
                )
            parameter.data.copy_(value)
    return net


def _read(path: str | Path | None) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has some, in the file's order."""
    if path is None or not Path(path).is_file():
        raise InputError(
            f"model.path={path or 'null'}: no such file; give Keras weights as model.path=/folder/net.h5 ({SOURCE})"
        )
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            layers = {_text(name): root[_text(name)] for name in root.attrs["layer_names"]}
            arrays = {
                name: [np.asarray(layer[_text(weight)]) for weight in layer.attrs["weight_names"]]
                for name, layer in layers.items()
            }
    except (OSError, KeyError) as error:
        raise InputError(f"model.path={path}: not a file of Keras weights ({error}); {SOURCE}") from error
    return {name: values for name, values in arrays.items() if values}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _pairs(
    layer: nn.Module, arrays: list[np.ndarray], maps: torch.Size | None, what: str
) -> list[tuple[Tensor, Tensor]]:
    """The layer's tensors, each with the values it takes. maps: (C, H, W) of the maps that a linear layer reads flattened."""
    values = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        own = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    else:
        own = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
        if values[0].ndim == 4:
            values[0] = values[0].permute(3, 2, 0, 1)
        elif maps is not None and values[0].shape[0] == maps.numel():
            channels, *sides = maps
            values[0] = values[0].T.unflatten(1, (*sides, channels)).permute(0, 3, 1, 2).flatten(1)
        else:
            values[0] = values[0].T
    if len(own) != len(values):
        raise InputError(f"{what} has {len(values)} arrays, the network's {type(layer).__name__} {len(own)}")
    return list(zip(own, values, strict=True))


def _flattened_maps(net: nn.Module, input_shape: Sequence[int]) -> dict[nn.Module, torch.Size]:
    """For each linear layer behind a flattening: the shape (C, H, W) of what was flattened last before it."""
    found: dict[nn.Module, torch.Size] = {}
    last: list[torch.Size] = []
    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Flatten):
            hooks.append(module.register_forward_pre_hook(lambda _, args: last.append(args[0].shape[1:])))
        elif isinstance(module, nn.Linear):
            hooks.append(module.register_forward_pre_hook(lambda m, _: found.update({m: last.pop()}) if last else None))
    weight = next(net.parameters())
    with torch.no_grad():
        net(torch.zeros(1, *input_shape, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    return {layer: shape for layer, shape in found.items() if len(shape) == 3}
