"""A ReLU network as a graph of named nodes with their inputs; modules of nodes for which torch has none."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from respike.errors import InputError

Weighted = nn.Linear | nn.Conv2d


class Add(nn.Module):
    """The sum of several branches of one shape."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Sum over the branches."""
        return sum(branches[1:], branches[0])


class Scale(nn.Module):
    """Multiplication by a constant: one number, or one per channel, (C,)."""

    def __init__(self, factor: float | Sequence[float] | Tensor):
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.float64).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) times the factor, in the dtype of x."""
        return x * per_channel(self.factor, x)

    def extra_repr(self) -> str:
        """The factor, for print(net)."""
        return f"{float(self.factor):.6g}" if self.factor.ndim == 0 else f"{len(self.factor)} channels"


class Affine(nn.Module):
    """x -> factor x + shift, each one number or one per channel, (C,)."""

    def __init__(self, factor: float | Tensor = 1.0, shift: float | Tensor = 0.0):
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.float64).detach().clone())
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...), in the dtype of x."""
        return x * per_channel(self.factor, x) + per_channel(self.shift, x)


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Values () or (C,) in a shape that multiplies x (B, C, ...), in the dtype of x."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 2)) if values.ndim else values.to(x.dtype)


class CappedReLU(nn.Module):
    """min(max(x, 0), cap): ReLU6 and clamp(0, cap)."""

    def __init__(self, cap: float):
        super().__init__()
        self.cap = float(cap)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return x.clamp(0, self.cap)


class Concat(nn.Module):
    """The channels of several branches, one after the other."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Branches (B, C_i, ...) -> (B, sum of C_i, ...)."""
        return torch.cat(branches, 1)


class Embed(nn.Module):
    """Maps among the channels of a concatenation: `before` channels of zeros, the maps, `after` channels of zeros."""

    def __init__(self, before: int, channels: int, after: int):
        super().__init__()
        self.before, self.channels, self.after = before, channels, after

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, channels, ...) -> (B, before + channels + after, ...)."""
        return nn.functional.pad(x, (*(0,) * (2 * (x.ndim - 2)), self.before, self.after))

    def of(self, whole: Tensor) -> Tensor:
        """The maps (B, channels, ...) among the channels of a concatenation, as a view."""
        return whole.narrow(1, self.before, self.channels)

    def extra_repr(self) -> str:
        """The channels, for print(net)."""
        return f"{self.before} + {self.channels} + {self.after}"


class Pad(nn.Module):
    """Zeros (or a crop, where negative) around the last axes; padding as in torch.nn.functional.pad, channels allowed."""

    def __init__(self, padding: Sequence[int]):
        super().__init__()
        self.padding = tuple(padding)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W)."""
        return nn.functional.pad(x, self.padding)


class Slice(nn.Module):
    """x[:, c, y, x] for slices (start, stop, step) of each axis behind the batch."""

    def __init__(self, slices: Sequence[Sequence[int | None]]):
        super().__init__()
        self.slices = tuple(tuple(part) for part in slices)

    def forward(self, x: Tensor) -> Tensor:
        """Values (B, C, ...)."""
        return x[(slice(None), *(slice(*part) for part in self.slices))]


class Windows(nn.Module):
    """The values in each window of a convolution or pool as channels: nothing is computed, values are copied.

    kernel_size, stride, dilation: (rows, columns); padding: zeros (left, right, top, bottom).
    """

    def __init__(
        self, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0, 0, 0),
        dilation: Sequence[int] = (1, 1),
    ):  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride = tuple(kernel_size), tuple(stride)
        self.padding, self.dilation = tuple(padding), tuple(dilation)

    @property
    def area(self) -> int:
        """Values in a window."""
        return self.kernel_size[0] * self.kernel_size[1]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, C area, H', W'), the channels in the order of the weights (C, rows, columns) of a neuron."""
        x = nn.functional.pad(x, self.padding) if any(self.padding) else x
        if self.area == 1:
            return x[:, :, :: self.stride[0], :: self.stride[1]]
        sides = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        ends = [(side - dilation * (kernel - 1) - 1) // stride + 1 for side, kernel, stride, dilation in sides]
        found = nn.functional.unfold(x, self.kernel_size, self.dilation, 0, self.stride)
        return found.view(len(x), -1, *ends)

    def extra_repr(self) -> str:
        """The window, for print(net)."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


class PlaceMap(nn.Module):
    """A linear map of the places of every map: rows (H', H), columns (W', W). An average pool with windows of unequal size."""

    def __init__(self, rows: Tensor, columns: Tensor):
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, C, H', W')."""
        return self.rows.to(x) @ x @ self.columns.to(x).T


def conv_settings(conv: nn.Conv2d) -> dict[str, Any]:
    """The constructor arguments of a convolution, without its bias."""
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
        "padding_mode": conv.padding_mode,
    }


class BiasMapConv2d(nn.Conv2d):
    """A convolution with a bias per place (C, H, W).

    It results from folding a shift into a zero-padded convolution: near the border part of the kernel sees no shift.
    """

    def __init__(self, conv: nn.Conv2d, bias_map: Tensor):
        super().__init__(**conv_settings(conv), bias=False, device="meta")
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.register_buffer("bias_map", bias_map)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) of the size that the bias map was made for."""
        return super().forward(x) + self.bias_map


class SignedMaxPool2d(nn.Module):
    """A max-pool that takes the minimum in channels of sign -1, as needed for maps multiplied by a negative factor.

    sign: (C,), 1 or -1.
    """

    def __init__(self, pool: nn.Module, sign: Tensor):
        super().__init__()
        self.pool = pool
        self.register_buffer("sign", sign)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W). Padded places are never chosen."""
        sign = self.sign.to(x.dtype).view(-1, 1, 1)
        return sign * self.pool(sign * x)


def max_pool_of_multiples(pool: nn.Module, factor: Tensor) -> nn.Module:
    """The max-pool that gives the pooled maps times `factor` (C,) where it reads the maps times `factor`.

    A negative factor turns the maximum of its channel into a minimum.
    """
    if not bool((factor < 0).any()):
        return pool
    sign = torch.where(factor < 0, -1, 1).reshape(-1)
    if isinstance(pool, SignedMaxPool2d):
        pool, sign = pool.pool, pool.sign * sign
    return SignedMaxPool2d(pool, sign)


@dataclass(frozen=True)
class Node:
    """One operation.

    kind: a key of `trace.KINDS`, or "add", "cat", "scale", "affine", "pad", "slice", "windows"; inputs: the names of the nodes
    it reads; module: computes its value.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    module: nn.Module

    @property
    def weighted(self) -> Weighted:
        """The module of a node of kind "linear" or "conv"."""
        assert isinstance(self.module, nn.Linear | nn.Conv2d), f"node {self.name} has the kind {self.kind}"
        return self.module


def affine_of(node: Node) -> Affine | None:
    """The operation x -> factor x + shift of a batch norm, a constant or a factor; None for any other node."""
    module = node.module
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        assert (
            module.running_mean is not None and module.running_var is not None
        )  # the reader refuses a batch norm without
        factor = (module.running_var + module.eps).rsqrt().double()
        shift = torch.zeros_like(factor)
        if module.affine:
            factor, shift = factor * module.weight.detach(), module.bias.detach().double()
        return Affine(factor, shift - factor * module.running_mean)
    if node.kind == "affine":
        return module if isinstance(module, Affine) else None
    if node.kind == "scale":
        return Affine(module.factor)
    if node.kind == "dropout_scale":
        return Affine(1 - module.p)
    return None


class Graph:
    """The nodes of a network by name, each after its inputs.

    The name of the network's input is "input". output: the name of the node whose value the network returns.
    """

    def __init__(self, nodes: dict[str, Node], output: str):
        self.nodes = nodes
        self.output = output

    def readers(self, name: str) -> list[Node]:
        """The nodes that read the value of `name`."""
        return [node for node in self.nodes.values() if name in node.inputs]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._weights.device

    def to(self, device: torch.device) -> "Graph":
        """The graph itself if it is there, else a copy with its weights and constants on the device."""
        if self.device == device:
            return self
        nodes = {
            name: Node(name, node.kind, node.inputs, copy.deepcopy(node.module).to(device))
            for name, node in self.nodes.items()
        }
        return Graph(nodes, self.output)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self._weights.dtype

    @property
    def _weights(self) -> Tensor:
        """The first parameter, or an empty tensor if there is none."""
        weights = (tensor for node in self.nodes.values() for tensor in node.module.parameters())
        return next(weights, torch.empty(0))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The value of every node for images (B, C, H, W), by name."""
        return dict(self.stream(images, keep=True))

    def stream(
        self, images: Tensor, keep: bool = False, change: Callable[[str, Tensor], Tensor] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Compute node by node: yields (name, value) of the input and then of each node.

        keep: hold all values; false frees a value after the last node that reads it. change: (name, value) of a node -> the
        value that its readers get and that is yielded.
        """
        values = {"input": images}
        last = {source: node.name for node in self.nodes.values() for source in node.inputs}
        yield "input", images
        for node in self.nodes.values():
            value = node.module(*(values[name] for name in node.inputs))
            values[node.name] = value if change is None else change(node.name, value)
            if not keep:
                for source in node.inputs:
                    if last[source] == node.name:
                        values.pop(source, None)
            yield node.name, values[node.name]

    def shapes(self, input_shape: Sequence[int]) -> dict[str, torch.Size]:
        """The shape of the input and of every value for one image of shape (C, H, W), without the batch axis.

        Raises InputError for images that do not fit.
        """
        images = torch.zeros(1, *input_shape, dtype=self.dtype, device=self.device)
        try:
            with torch.no_grad():
                return {name: value.shape[1:] for name, value in self.stream(images)}
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"images of shape {tuple(input_shape)} do not fit the network ({reason})") from error
