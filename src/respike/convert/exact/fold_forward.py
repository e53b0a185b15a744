"""Operations x -> kappa x + shift per channel, merged into the weighted layer behind them: batch norms that follow a ReLU,
constant factors, and the input's own range. Stanojevic et al. 2023, phase 1."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.convert.exact.chain import linked, signed_pool
from respike.convert.graph.nodes import BiasMapConv2d, Graph, Node
from respike.errors import InputError


@dataclass(frozen=True)
class Affine:
    """x -> kappa x + shift; both (C,), per channel or feature."""

    kappa: Tensor
    shift: Tensor

    def then(self, later: "Affine") -> "Affine":
        """This one, and then another."""
        return Affine(later.kappa * self.kappa, later.kappa * self.shift + later.shift)

    def repeated(self, places: int) -> "Affine":
        """For the features of flattened maps: each channel's numbers once per place."""
        return Affine(self.kappa.repeat_interleave(places), self.shift.repeat_interleave(places))


def unit_input(graph: Graph, p: float, q: float, input_shape: tuple[int, ...]) -> Graph:
    """The chain for images (x - p) / (q - p) in [0, 1] instead of x in [p, q]: f'((x - p) / (q - p)) = f(x).

    An imaginary batch norm of kappa q - p and shift p behind the input, merged into the first layer.
    """
    if not p < q:
        raise InputError(
            f"convert.input_range=[{p},{q}]: two rising numbers are needed, as in convert.input_range=[0,1]"
        )
    like = next(module.weight for module in _weighted(graph))
    ones = torch.ones(input_shape[0], dtype=like.dtype, device=like.device)
    return fold_forward(graph, input_shape, Affine((q - p) * ones, p * ones))


def _weighted(graph: Graph) -> list[nn.Module]:
    return [node.module for node in graph.nodes.values() if node.kind in ("conv", "linear")]


def fold_forward(graph: Graph, input_shape: tuple[int, ...], pending: Affine | None = None) -> Graph:
    """The chain without batch norms and constant factors behind ReLUs: each is merged into the next weighted layer.

    Max-pools and flattening between are passed: a negative kappa turns a channel's max-pool into a min-pool. Zero-padded
    places carry no shift, so a padded convolution gets a bias per place. pending: an operation on the input.
    """
    shapes, nodes = graph.shapes(input_shape), []
    for node in graph.nodes.values():
        before = shapes[node.inputs[0]]
        affine = _affine(node, before)
        if affine:
            pending = pending.then(affine) if pending else affine
        elif pending is None:
            nodes.append(node)
        elif node.kind == "flatten":
            pending = pending.repeated(before[1:].numel())
            nodes.append(node)
        elif node.kind == "maxpool":
            nodes.append(signed_pool(node, pending.kappa))
        else:
            merge = _into_conv if node.kind == "conv" else _into_linear
            nodes.append(Node(node.name, node.kind, node.inputs, merge(node.module, pending, before)))
            pending = None
    return linked(nodes)


def _affine(node: Node, shape: torch.Size) -> Affine | None:
    """What a node multiplies and adds per channel of (C, ...), or None if it is no such operation."""
    module = node.module
    if node.kind == "batchnorm":
        kappa = (module.running_var + module.eps).rsqrt()
        kappa, shift = (kappa * module.weight, module.bias) if module.affine else (kappa, torch.zeros_like(kappa))
        return Affine(kappa.detach(), (shift - kappa * module.running_mean).detach())
    if node.kind in ("scale", "dropout_scale"):
        factor = float(module.factor) if node.kind == "scale" else 1 - module.p
        kappa = torch.full((shape[0],), factor, dtype=torch.float64)
        return Affine(kappa, torch.zeros_like(kappa))
    return None


def _into_linear(linear: nn.Linear, affine: Affine, shape: torch.Size) -> nn.Linear:
    """W' = W diag(kappa), b' = b + W shift."""
    weight = linear.weight.detach()
    moved = weight @ affine.shift.to(weight)
    merged = nn.Linear(*weight.T.shape, device="meta")
    merged.weight = nn.Parameter(weight * affine.kappa.to(weight))
    merged.bias = nn.Parameter(moved if linear.bias is None else linear.bias.detach() + moved)
    return merged


def _into_conv(conv: nn.Conv2d, affine: Affine, shape: torch.Size) -> nn.Conv2d:
    """W' = W diag(kappa); b' at each place is the convolution of the shift's map, padded with zeros."""
    weight = conv.weight.detach()
    shift = affine.shift.to(weight).view(-1, 1, 1).expand(shape)
    with torch.no_grad():
        bias_map = conv(shift[None])[0]  # the old bias included
    kappa = affine.kappa.to(weight).view(conv.groups, 1, -1).expand(-1, conv.out_channels // conv.groups, -1)
    merged = BiasMapConv2d(conv, bias_map)
    merged.weight.data *= kappa.flatten(0, 1)[..., None, None]
    if any(merged._reversed_padding_repeated_twice) and bool(affine.shift.any()):
        return merged
    return constant_bias(merged, bias_map[:, 0, 0])


def constant_bias(conv: nn.Conv2d, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same weights with an ordinary bias (C,)."""
    kept = conv.stride, conv.padding, conv.dilation, conv.groups
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, *kept, device="meta")
    plain.weight, plain.bias = nn.Parameter(conv.weight.detach().clone()), nn.Parameter(bias.clone())
    return plain
