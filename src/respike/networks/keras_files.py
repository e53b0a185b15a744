"""Reads weights from Keras .h5 files, as Stanojevic et al. 2023 publish theirs.

Keras stores kernels as (height, width, in, out) and linear weights as (in, out), and flattens feature maps channels last.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from respike.errors import InputError

SOURCE = "the authors publish theirs with github.com/IBM/exact-mapping-ReLUnetwork-SNN"
LOADED = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)


def load_keras(path: str | Path | None, net: nn.Module, input_shape: Sequence[int] = (1, 28, 28)) -> nn.Module:
    """The network with the weights of a Keras file (of `save_weights`, or of `save` in the h5 format), in eval mode.

    net: its Conv2d, Linear and BatchNorm modules must have the order of the layers in the file. input_shape: (C, H, W) of its
    images; one image is passed through it to find the linear layers that read flattened maps. Raises InputError for a file that
    is missing, or that holds another network.
    """
    groups = _read(path)
    layers = [m for m in net.modules() if isinstance(m, LOADED) and (m.weight is not None)]
    if len(layers) != len(groups):
        raise InputError(
            f"model.path={path}: {len(groups)} layers with weights ({', '.join(groups)}), but the network has {len(layers)}"
        )
    maps = _flattened_maps(net.eval(), input_shape)
    for layer, (name, arrays) in zip(layers, groups.items(), strict=True):
        for parameter, value in _values(layer, arrays, maps.get(layer), f"model.path={path}: layer {name}"):
            if parameter.shape != value.shape:
                raise InputError(
                    f"model.path={path}: layer {name} has the shape {tuple(value.shape)}, the network's "
                    f"{type(layer).__name__} {tuple(parameter.shape)}"
                )
            parameter.data.copy_(value)
    return net


def _read(path: str | Path | None) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer with weights, in the order of the file."""
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


def _values(
    layer: nn.Module, arrays: list[np.ndarray], maps: torch.Size | None, place: str
) -> list[tuple[Tensor, Tensor]]:
    """The tensors of a layer, each with its value from the file.

    maps: shape (C, H, W) of the maps that a linear layer reads flattened; place: the layer's place, for the error message.
    """
    values = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        tensors = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    else:
        tensors = [layer.weight, layer.bias]
        values[0] = _weight(values[0], maps)
    present = [tensor for tensor in tensors if tensor is not None]
    if len(present) != len(values):
        raise InputError(f"{place} has {len(values)} arrays, the network's {type(layer).__name__} {len(present)}")
    return list(zip(present, values, strict=True))


def _weight(value: Tensor, maps: torch.Size | None) -> Tensor:
    """A kernel (H, W, in, out) as (out, in, H, W), or a linear weight (in, out) as (out, in).

    If a linear layer reads flattened maps (C, H, W), its inputs are reordered from channels last to channels first.
    """
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    if maps is not None and value.shape[0] == maps.numel():
        channels, height, width = maps
        return value.T.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2).flatten(1)
    return value.T


def _flattened_maps(net: nn.Module, input_shape: Sequence[int]) -> dict[nn.Module, torch.Size]:
    """The shape (C, H, W) of the maps that a linear layer reads flattened, for each linear layer that reads some."""
    found: dict[nn.Module, torch.Size] = {}
    flattened: list[torch.Size] = []  # the shape before the last flattening that no linear layer has read yet

    def before_flatten(module: nn.Module, inputs: tuple[Tensor]) -> None:
        flattened.append(inputs[0].shape[1:])

    def before_linear(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if flattened:
            found[module] = flattened.pop()

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Flatten):
            hooks.append(module.register_forward_pre_hook(before_flatten))
        elif isinstance(module, nn.Linear):
            hooks.append(module.register_forward_pre_hook(before_linear))
    weight = next(net.parameters())
    with torch.no_grad():
        net(torch.zeros(1, *input_shape, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    return {layer: shape for layer, shape in found.items() if len(shape) == 3}
