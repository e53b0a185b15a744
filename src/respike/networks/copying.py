"""Copies of a network, for whoever must not change the network."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def eval_copy(net: nn.Module, share: bool = False) -> nn.Module:
    """A copy of the network in eval mode. share: with the same parameters, not with copies of them.

    Hooks of torch.nn.utils (pruning, weight norm) leave weights computed with gradients in their modules, which deepcopy
    refuses; the copy has their values.
    """
    if not share:
        return copy.deepcopy(net, _computed(net)).eval()
    return copied(net, lambda value: value.detach() if isinstance(value, nn.Parameter) else value.clone()).eval()


def copied(net: Module, change: Callable[[Tensor], Tensor]) -> Module:
    """A copy whose weights and buffers are change(those of the network), with no other copy of them in between."""
    weights: dict[int, Tensor] = {
        id(weight): nn.Parameter(change(weight), requires_grad=False) for weight in net.parameters()
    }
    return copy.deepcopy(net, _computed(net) | weights | {id(buffer): change(buffer) for buffer in net.buffers()})


def device_of(net: nn.Module) -> torch.device:
    """Where the weights of a network are; the CPU without weights."""
    return next((value.device for value in (*net.parameters(), *net.buffers())), torch.device("cpu"))


def on_cpu(net: Module) -> Module:
    """The network itself if it is on the CPU, else a copy that is."""
    return net if device_of(net).type == "cpu" else copied(net, lambda value: value.detach().cpu())


def in_double(net: Module) -> Module:
    """A copy in float64 on the CPU, in eval mode."""

    def changed(value: Tensor) -> Tensor:
        return value.detach().to("cpu", torch.float64 if value.is_floating_point() else value.dtype, copy=True)

    return copied(net, changed).eval()


def _computed(net: nn.Module) -> dict[int, Tensor]:
    return {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
