"""A ReLU network as a graph of named nodes, each with its inputs. Branches may meet in an add."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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
        weights = (tensor for node in self.nodes.values() for tensor in node.module.parameters())
        return next(weights, torch.empty(0)).device

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The value of every node for images (B, C, H, W), by name."""
        values = {"input": images}
        for node in self.nodes.values():
            values[node.name] = node.module(*(values[name] for name in node.inputs))
        return values
