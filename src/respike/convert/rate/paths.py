"""Linear paths from one spiking layer to another: constant factors merged into the weights, values followed by channel.

A path is a list of modules with at most one weighted operation. C channels of its source, C' of its end.
"""

import copy

import torch
from torch import Tensor, nn

from respike.convert.graph.modules import per_input
from respike.convert.graph.nodes import BiasMapConv2d, Embed, Pad, Scale, Slice, conv_settings
from respike.errors import InputError


def merge_path(modules: list[nn.Module], layer: str) -> list[nn.Module]:
    """Copies of the modules of a path with every constant factor multiplied into the weights.

    Without weights one factor remains, if it is not 1. A weighted operation that reads a part of a concatenation keeps the
    weights of that part. Biases are dropped: they belong to the layer. Raises InputError for more than one weighted operation
    and for factors that differ by place.
    """
    modules = [copy.deepcopy(module) for module in modules]
    found = [i for i, module in enumerate(modules) if isinstance(module, nn.Linear | nn.Conv2d)]
    if len(found) > 1:
        raise InputError(f"two weighted layers without a ReLU between them lead to '{layer}'")
    if not found:
        return _merge_factors(modules)
    before, weighted, behind = modules[: found[0]], modules[found[0]], modules[found[0] + 1 :]
    assert isinstance(weighted, nn.Linear | nn.Conv2d)
    if isinstance(weighted, BiasMapConv2d):
        plain = nn.Conv2d(**conv_settings(weighted), bias=False, device="meta")
        plain.weight, weighted = weighted.weight, plain
    weighted.register_parameter("bias", None)
    before, columns = _without_factors(before)
    scale_inputs(weighted, columns)
    before = _narrow(before, weighted)
    rows = torch.ones((), dtype=torch.float64)
    kept: list[nn.Module] = []
    for module in reversed(behind):
        if isinstance(module, Scale):
            rows = rows * module.factor
        else:
            rows = rows if rows.ndim == 0 else _back_through(module, rows)
            kept.insert(0, module)
    scale_outputs(weighted, rows)
    return [*before, weighted, *kept]


def _merge_factors(modules: list[nn.Module]) -> list[nn.Module]:
    """The modules of a path without weights, with one factor at its end, or in front of a flattening."""
    kept: list[nn.Module] = []
    factor = torch.ones((), dtype=torch.float64)
    for module in modules:
        if isinstance(module, Scale):
            factor = factor * module.factor
            continue
        if isinstance(module, nn.Flatten) and factor.ndim:
            kept.append(Scale(factor))
            factor = torch.ones((), dtype=torch.float64)
        factor = factor if factor.ndim == 0 else through(module, factor)
        kept.append(module)
    return kept if bool((factor == 1).all()) else [*kept, Scale(factor)]


def _without_factors(modules: list[nn.Module]) -> tuple[list[nn.Module], Tensor]:
    """The modules in front of the weights without their constant factors, and their product per channel."""
    kept, factor = [], torch.ones((), dtype=torch.float64)
    for module in modules:
        if isinstance(module, Scale):
            if factor.ndim and module.factor.ndim and len(factor) != len(module.factor):
                factor = factor.repeat_interleave(len(module.factor) // len(factor))  # behind a flattening
            factor = factor * module.factor
        else:
            factor = factor if factor.ndim == 0 else through(module, factor)
            kept.append(module)
    return kept, factor


def _narrow(before: list[nn.Module], weighted: nn.Linear | nn.Conv2d) -> list[nn.Module]:
    """Keep the weights of the channels that a path reads, instead of embedding these among zeros, where possible."""
    embeds = [module for module in before if isinstance(module, Embed)]
    plain = all(isinstance(module, Embed | nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.Flatten) for module in before)
    if len(embeds) != 1 or not plain or (isinstance(weighted, nn.Conv2d) and weighted.groups > 1):
        return before
    (embed,) = embeds
    width = weighted.weight.shape[1] // (embed.before + embed.channels + embed.after)  # places per channel
    first, number = embed.before * width, embed.channels * width
    weighted.weight = nn.Parameter(weighted.weight.detach()[:, first : first + number].clone(), requires_grad=False)
    if isinstance(weighted, nn.Conv2d):
        weighted.in_channels = number
    else:
        weighted.in_features = number
    return [module for module in before if module is not embed]


def through(module: nn.Module, values: Tensor, added: float = 1.0) -> Tensor:
    """Values per channel of a module's input (C,) as values per channel of its output; `added` where it adds channels."""
    if isinstance(module, Embed):
        values = values.repeat_interleave(module.channels // len(values))  # once per place of flattened maps
        return nn.functional.pad(values, (module.before, module.after), value=added)
    if isinstance(module, Pad) and len(module.padding) == 6:
        return nn.functional.pad(values, module.padding[4:], value=added)
    if isinstance(module, Slice):
        return values[slice(*module.slices[0])]
    return values


def _back_through(module: nn.Module, values: Tensor) -> Tensor:
    """Values per channel of a module's output as values per channel of its input."""
    if isinstance(module, Embed):
        return values[module.before : module.before + module.channels]
    if isinstance(module, Pad | Slice):
        raise InputError(
            "a factor per channel behind a slice or padding of weighted maps cannot be merged; move it in front"
        )
    return values


def scale_inputs(weighted: nn.Linear | nn.Conv2d, factor: Tensor) -> None:
    """Multiply the weights by a factor of their inputs, () or (C,), in place."""
    weight, factor = weighted.weight.data, factor.to(weighted.weight)
    if factor.ndim and isinstance(weighted, nn.Linear):
        factor = factor.repeat_interleave(weighted.in_features // len(factor))  # places of flattened maps
    weight *= per_input(factor, weighted) if factor.ndim else factor


def scale_outputs(weighted: nn.Linear | nn.Conv2d, factor: Tensor) -> None:
    """Multiply the weights by a factor of their outputs, () or (C',), in place. InputError for one that differs by place."""
    weight = weighted.weight.data
    if factor.ndim == 1 and len(factor) != len(weight):  # behind a flattening
        by_place = factor.view(len(weight), -1)
        if not bool((by_place == by_place[:, :1]).all()):
            raise InputError(
                "a factor that differs by place, of a batch norm or a scale behind flattened maps, cannot be merged into a "
                "convolution; flatten behind the ReLU, or type convert.scale=layer"
            )
        factor = by_place[:, 0]
    weight *= factor.to(weight).view(-1, *[1] * (weight.ndim - 1))
