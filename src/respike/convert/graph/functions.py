"""Functions and tensor methods that a network's forward may call, and the modules that take their place in a graph.

A function is known by itself, a method by its name.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.convert.graph.modules import conv2d_of, linear_of, with_tensors
from respike.convert.graph.nodes import CappedReLU, Pad
from respike.errors import InputError


def _max_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    if (start_dim, end_dim) != (1, -1):
        raise InputError(f"a reshape by flatten({start_dim}, {end_dim}) cannot be converted; only flatten(1) can")
    return nn.Flatten()


def _view(*shape: Any) -> nn.Module:
    """view(batch, -1) and view(-1, features) are read as flatten(1)."""
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    if len(shape) != 2 or -1 not in shape:
        raise InputError(f"a reshape to {shape} cannot be converted; only flattening to (batch, -1) can")
    return nn.Flatten()


def _pad(pad: Sequence[int], mode: str = "constant", value: float | None = None) -> nn.Module:
    if mode != "constant" or value not in (None, 0):
        raise InputError(f"padding by {mode} with {value} cannot be converted; only zeros can")
    return Pad(pad)


def clamp_module(min: float | None = None, max: float | None = None, **_: Any) -> nn.Module:
    """A ReLU, capped if there is a largest value. Raises InputError for a smallest value other than 0."""
    if min != 0:
        raise InputError(f"clamp({min}, {max}) cannot be converted; clamp(0, c) can, as a capped ReLU")
    return nn.ReLU() if max is None else CappedReLU(max)


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module:
    return clamp_module(min_val, max_val)


class FunctionalBatchNorm(nn.BatchNorm2d):
    """F.batch_norm as a module: of maps (B, C, H, W), or of features (B, C)."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _batch_norm(
    running_mean: Tensor, running_var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> nn.Module:  # fmt: skip
    if training or running_mean is None:
        raise InputError("batch_norm with the statistics of its batch cannot be converted; give training=self.training")
    mean = running_mean.detach()
    weight = torch.ones_like(mean) if weight is None else weight
    bias = torch.zeros_like(mean) if bias is None else bias
    made = FunctionalBatchNorm(len(mean), eps, momentum, device="meta")
    made.num_batches_tracked = torch.tensor(0)
    return with_tensors(made, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)


# Function, or name of a tensor method -> kind of node, and what makes its module from the remaining arguments of the call.
FUNCTIONS: dict[Any, tuple[str, Callable[..., nn.Module]]] = {
    F.relu: ("relu", lambda inplace=False: nn.ReLU()),
    torch.relu: ("relu", nn.ReLU),
    torch.relu_: ("relu", nn.ReLU),
    "relu": ("relu", nn.ReLU),
    "relu_": ("relu", nn.ReLU),
    F.relu6: ("relu", lambda inplace=False: CappedReLU(6)),
    F.hardtanh: ("relu", _hardtanh),
    torch.clamp: ("relu", clamp_module),
    "clamp": ("relu", clamp_module),
    torch.clip: ("relu", clamp_module),
    "clip": ("relu", clamp_module),
    torch.clamp_min: ("relu", clamp_module),
    "clamp_min": ("relu", clamp_module),
    F.linear: ("linear", linear_of),
    F.conv2d: ("conv", conv2d_of),
    F.batch_norm: ("batchnorm", _batch_norm),
    F.avg_pool2d: ("avgpool", nn.AvgPool2d),
    F.adaptive_avg_pool2d: ("avgpool", nn.AdaptiveAvgPool2d),
    F.max_pool2d: ("maxpool", _max_pool),
    torch.max_pool2d: ("maxpool", _max_pool),
    F.pad: ("pad", _pad),
    F.dropout: ("identity", lambda *args, **kwargs: nn.Identity()),
    F.dropout2d: ("identity", lambda *args, **kwargs: nn.Identity()),
    F.softmax: ("softmax", lambda *args, **kwargs: nn.Softmax(dim=1)),
    F.log_softmax: ("softmax", lambda *args, **kwargs: nn.LogSoftmax(dim=1)),
    torch.softmax: ("softmax", lambda *args, **kwargs: nn.Softmax(dim=1)),
    "softmax": ("softmax", lambda *args, **kwargs: nn.Softmax(dim=1)),
    "log_softmax": ("softmax", lambda *args, **kwargs: nn.LogSoftmax(dim=1)),
    "contiguous": ("identity", lambda *args, **kwargs: nn.Identity()),
}
RESHAPES: dict[Any, Callable[..., nn.Module]] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    torch.squeeze: lambda *args: unknown_size("squeeze"),
    "squeeze": lambda *args: unknown_size("squeeze"),
}
CASTS = ("to", "type_as", "float", "double")  # of the first argument, to the type and device of the others
REDUCTIONS = {
    torch.mean: "avgpool",
    "mean": "avgpool",
    torch.amax: "maxpool",
    "amax": "maxpool",
}  # over places, as pools
CONCATS = (torch.cat, torch.concat, torch.concatenate)
# Arithmetic of a value and a constant c, as factor and shift.
ARITHMETIC: dict[str, Callable[[Tensor], tuple[Tensor | float, Tensor | float]]] = {
    "add": lambda c: (1.0, c),
    "sub": lambda c: (1.0, -c),
    "reverse_sub": lambda c: (-1.0, c),
    "mul": lambda c: (c, 0.0),
    "div": lambda c: (1 / c, 0.0),
}
OPERATIONS: dict[Any, str] = {
    name: kind
    for kind, names in {
        "add": (operator.add, operator.iadd, torch.add, "add", "add_"),
        "sub": (operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract"),
        "mul": (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply"),
        "div": (
            operator.truediv,
            operator.itruediv,
            torch.div,
            torch.divide,
            torch.true_divide,
            "div",
            "div_",
            "divide",
        ),
    }.items()
    for name in names
}


def unknown_size(name: str) -> nn.Module:
    """Raises InputError for an operation that depends on the images' size where that is unknown."""
    raise InputError(f"{name} in the network's forward depends on the size of its images; convert with images")
