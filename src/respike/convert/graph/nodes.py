"""A ReLU network as a graph of named nodes, each with its inputs. Branches may meet in an add."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.errors import InputError


class Add(nn.Module):
    """The sum of several branches, all of one shape."""

    def forward(self, *branches: Tensor) -> Tensor:
        """Sum over the branches."""
        return sum(branches[1:], branches[0])


class Scale(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.register_buffer("factor", torch.as_tensor(float(factor), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x * self.factor.to(x.dtype)

    def extra_repr(self) -> str:
        """The factor, for print(net)."""
        return f"{float(self.factor):.6g}"


class BiasMapConv2d(nn.Conv2d):
    """A convolution whose bias (C, H, W) differs from place to place, as beside a zero-padded border."""

    def __init__(self, conv: nn.Conv2d, bias_map: Tensor):
        shape = conv.in_channels, conv.out_channels, conv.kernel_size
        kept = conv.stride, conv.padding, conv.dilation, conv.groups
        super().__init__(*shape, *kept, bias=False, padding_mode=conv.padding_mode, device="meta")
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.register_buffer("bias_map", bias_map)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the one size the map was made for."""
        return super().forward(x) + self.bias_map


class SignedMaxPool2d(nn.Module):
    """A max-pool in which channels of sign -1 take the minimum: what a max-pool is to maps that changed their sign.

    sign: (C,), 1 or -1.
    """

    def __init__(self, pool: nn.Module, sign: Tensor):
        super().__init__()
        self.pool = pool
        self.register_buffer("sign", sign)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W); padding never wins."""
        sign = self.sign.to(x.dtype).view(-1, 1, 1)
        return sign * self.pool(sign * x)


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of the nodes it reads and the module that computes it."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    module: nn.Module


class Graph:
    """The nodes of a network by name, in an order in which each comes after its inputs.

    The input is called "input"; `output` names the node whose value the network returns.
    """

    def __init__(self, nodes: dict[str, Node], output: str):
        self.nodes = nodes
        self.output = output

    def readers(self, name: str) -> list[Node]:
        """The nodes that read the value of `name`."""
        return [node for node in self.nodes.values() if name in node.inputs]

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return self._weights.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return self._weights.dtype

    @property
    def _weights(self) -> Tensor:
        """One of the parameters, or an empty tensor where there is none."""
        weights = (tensor for node in self.nodes.values() for tensor in node.module.parameters())
        return next(weights, torch.empty(0))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The value of every node for images (B, C, H, W), by name."""
        return dict(self.stream(images, keep=True))

    def stream(self, images: Tensor, keep: bool = False) -> Iterator[tuple[str, Tensor]]:
        """(name, value) of the input and then of each node in turn; unless kept, a value is freed behind its last reader."""
        values = {"input": images}
        last = {source: node.name for node in self.nodes.values() for source in node.inputs}
        yield "input", images
        for node in self.nodes.values():
            values[node.name] = node.module(*(values[name] for name in node.inputs))
            if not keep:
                for source in node.inputs:
                    if last[source] == node.name:
                        values.pop(source, None)
            yield node.name, values[node.name]

    def shapes(self, input_shape: tuple[int, ...]) -> dict[str, torch.Size]:
        """The shape of every value, the input's included, for one image of shape (C, H, W), without the batch.

        Raises InputError where such images do not fit.
        """
        images = torch.zeros(1, *input_shape, dtype=self.dtype, device=self.device)
        try:
            with torch.no_grad():
                return {name: value.shape[1:] for name, value in self.stream(images)}
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"images of shape {tuple(input_shape)} do not fit the network ({reason})") from error
