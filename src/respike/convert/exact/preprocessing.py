"""Phase 1 of the exact mapping (Stanojevic et al. 2023): the same function as a chain of plain weighted layers and ReLUs.

Steps: read the network as a chain; scale the input to [0, 1]; fold batch norms and constant factors behind ReLUs into the next
weighted layer; bound each neuron's sum of weights. Operations of the form x -> kappa x + shift per channel are `Affine`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.convert.exact.chain import connect_in_order, pool_scaled_maps, read_chain
from respike.convert.exact.ttfs_net import unit_leads
from respike.convert.graph.check import TOLERANCE, check_graph
from respike.convert.graph.nodes import BiasMapConv2d, CappedReLU, Graph, Node, Weighted, conv_settings
from respike.convert.graph.trace import read_graph
from respike.errors import InputError


def preprocess(
    net: nn.Module,
    input_shape: Sequence[int],
    input_range: Sequence[float] = (0.0, 1.0),
    weight_bounds: Sequence[float] | None = (-10.0, 0.99),
    dtype: torch.dtype = torch.float64,
    images: Tensor | None = None,
) -> Graph:
    """Phase 1: the function of the network, for images scaled to [0, 1], as a chain with bounded sums of weights.

    input_shape: (C, H, W) of an image; input_range: [p, q] of the pixels that the network takes. images: a few images
    (B, C, H, W) on which the graph and the chain are compared with the network. weight_bounds: None leaves the sums of weights
    as they are, for neurons that take any, and which also take capped activations. Raises InputError for a network that is no
    such chain or differs from it, or for ranges and bounds that are not allowed.
    """
    graph = read_graph(net, dtype, input_shape)
    chain = read_chain(graph, input_shape)
    if weight_bounds is not None:
        _refuse_caps(chain)
    check_graph(net, images)
    p, q = input_range
    images = None if images is None or not len(images) else images.to(graph.device)
    expected = None if images is None else _value(graph, chain.output, images.to(dtype))
    del graph  # its weights need not be held until the end
    chain = fold_forward(unit_input(chain, p, q, input_shape), input_shape)
    if weight_bounds is not None:
        chain = bound_weight_sums(chain, input_shape, *weight_bounds)
    if images is not None and expected is not None:
        _check_value(chain.output, _value(chain, chain.output, unit_leads(images, (p, q), dtype)), expected)
    return chain


def _refuse_caps(chain: Graph) -> None:
    for node in chain.nodes.values():
        if isinstance(node.module, CappedReLU):
            raise InputError(
                f"activations of layer '{node.name}' end at {node.module.cap:.4g}, those of the exact mapping do not; "
                "type convert=none, whose neurons fire at t_min at the earliest"
            )


def _value(graph: Graph, name: str, images: Tensor) -> Tensor:
    with torch.no_grad():
        return next(value for node, value in graph.stream(images) if node == name)


def _check_value(name: str, value: Tensor, expected: Tensor) -> None:
    """Raise InputError if the chain's output is not the network's."""
    if not (value - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise InputError(
            f"'{name}' of the mapped network does not have the values of the network; weights so large that float64 "
            "cannot hold the mapping? train with weight decay"
        )


@dataclass(frozen=True)
class Affine:
    """x -> kappa x + shift; both (C,), per channel or feature."""

    kappa: Tensor
    shift: Tensor

    def then(self, later: "Affine") -> "Affine":
        """This operation followed by another."""
        return Affine(later.kappa * self.kappa, later.kappa * self.shift + later.shift)

    def repeated(self, places: int) -> "Affine":
        """The operation on flattened maps: the numbers of each channel once per place of its map."""
        return Affine(self.kappa.repeat_interleave(places), self.shift.repeat_interleave(places))


def unit_input(graph: Graph, p: float, q: float, input_shape: Sequence[int]) -> Graph:
    """The chain f' for images (x - p) / (q - p) in [0, 1] instead of x in [p, q]: f'((x - p) / (q - p)) = f(x).

    The operation x -> (q - p) x + p on the input is folded into the first weighted layer.
    """
    if not p < q:
        raise InputError(
            f"convert.input_range=[{p},{q}]: two rising numbers are needed, as in convert.input_range=[0,1]"
        )
    first = next(node.weighted.weight for node in graph.nodes.values() if node.kind in ("conv", "linear"))
    ones = torch.ones(input_shape[0], dtype=first.dtype, device=first.device)
    return fold_forward(graph, input_shape, Affine((q - p) * ones, p * ones))


def fold_forward(graph: Graph, input_shape: Sequence[int], pending: Affine | None = None) -> Graph:
    """The chain with every batch norm and constant factor behind a ReLU folded into the next weighted layer.

    Max-pools and flattening may lie between: a negative kappa turns a channel's max-pool into a min-pool. Zero padding has no
    shift, so a padded convolution gets one bias per place. pending: an operation on the input, folded as well.
    """
    shapes, nodes = graph.shapes(input_shape), []
    for node in graph.nodes.values():
        shape = shapes[node.inputs[0]]
        affine = _affine(node, shape)
        if affine:
            pending = pending.then(affine) if pending else affine
        elif pending is None:
            nodes.append(node)
        elif node.kind == "flatten":
            pending = pending.repeated(shape[1:].numel())
            nodes.append(node)
        elif node.kind == "maxpool":
            nodes.append(pool_scaled_maps(node, pending.kappa))
        else:
            nodes.append(Node(node.name, node.kind, node.inputs, _fold_into(node.weighted, pending, shape)))
            pending = None
    return connect_in_order(nodes)


def _affine(node: Node, shape: torch.Size) -> Affine | None:
    """The operation of a batch norm or constant factor on an input of shape (C, ...), None for any other node."""
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


def _fold_into(layer: Weighted, affine: Affine, shape: torch.Size) -> Weighted:
    """The layer that computes of x what `layer` computes of kappa x + shift; x has the given shape (C, ...)."""
    if isinstance(layer, nn.Conv2d):
        return _fold_into_conv(layer, affine, shape)
    return _fold_into_linear(layer, affine)


def _fold_into_linear(linear: nn.Linear, affine: Affine) -> nn.Linear:
    """W' = W diag(kappa), b' = b + W shift."""
    weight = linear.weight.detach()
    moved = weight @ affine.shift.to(weight)
    folded = nn.Linear(linear.in_features, linear.out_features, device="meta")
    folded.weight = nn.Parameter(weight * affine.kappa.to(weight))
    folded.bias = nn.Parameter(moved if linear.bias is None else linear.bias.detach() + moved)
    return folded


def _fold_into_conv(conv: nn.Conv2d, affine: Affine, shape: torch.Size) -> nn.Conv2d:
    """W' = W diag(kappa); b' at each place is the convolution of the map of shifts, padded with zeros."""
    weight = conv.weight.detach()
    shift = affine.shift.to(weight).view(-1, 1, 1).expand(shape)
    with torch.no_grad():
        bias_map = conv(shift[None])[0]  # includes the bias of the convolution
    folded = BiasMapConv2d(conv, bias_map)
    folded.weight.data *= _per_input(affine.kappa.to(weight), conv)
    differs = any(folded._reversed_padding_repeated_twice) and bool(affine.shift.any())
    if differs or isinstance(conv, BiasMapConv2d):
        return folded
    return _conv_with_bias(folded, bias_map[:, 0, 0])


def bound_weight_sums(graph: Graph, input_shape: Sequence[int], low: float = -10.0, high: float = 0.99) -> Graph:
    """The chain with every hidden neuron's sum of weights c in [low, high], and the same function (phase 1, step 4).

    If c lies outside, the neuron's incoming weights and bias are divided by c / bound, which is above 1, and its outgoing
    weights are multiplied by it. This keeps the function, because ReLU(f x) = f ReLU(x) for f > 0, and the same holds for
    max-pools and min-pools. high below 1 keeps 1 - sum W positive, by which the mapping divides.
    """
    if not low < 0 < high < 1:
        raise InputError(
            f"convert.weight_bounds=[{low},{high}]: one below 0 and one in (0, 1), as in convert.weight_bounds=[-10,0.99]"
        )
    shapes, nodes, factor = graph.shapes(input_shape), [], None
    weighted = [node.name for node in graph.nodes.values() if node.kind in ("conv", "linear")]
    for node in graph.nodes.values():
        if node.kind == "flatten" and factor is not None:
            factor = factor.repeat_interleave(shapes[node.inputs[0]][1:].numel())
        if node.kind in ("conv", "linear"):
            module = node.weighted
            weight = module.weight.detach()
            if factor is not None:
                weight = weight * _per_input(factor, module)
            sums = weight.flatten(1).sum(1)
            factor = torch.where(sums > high, sums / high, torch.where(sums < low, sums / low, 1))
            if node.name == weighted[-1]:
                factor = torch.ones_like(sums)
            weight = weight / factor.view(-1, *[1] * (weight.ndim - 1))
            node = Node(node.name, node.kind, node.inputs, _with_weight(module, weight, factor))
        nodes.append(node)
    return connect_in_order(nodes)


def _per_input(factor: Tensor, module: Weighted) -> Tensor:
    """Factors (C,) of the inputs in the shape of the weights they multiply: (1, F) or (C', C / groups, 1, 1)."""
    if isinstance(module, nn.Linear):
        return factor[None]
    grouped = factor.view(module.groups, 1, -1).expand(-1, module.out_channels // module.groups, -1)
    return grouped.flatten(0, 1)[..., None, None]


def _with_weight(module: Weighted, weight: Tensor, factor: Tensor) -> Weighted:
    """A layer like `module` with another weight, and the bias divided by the factor (C,)."""
    changed: Weighted
    if isinstance(module, BiasMapConv2d):
        changed = BiasMapConv2d(module, module.bias_map / factor.view(-1, 1, 1))
    elif isinstance(module, nn.Conv2d):
        bias = torch.zeros_like(factor) if module.bias is None else module.bias.detach() / factor
        changed = _conv_with_bias(module, bias)
    else:
        changed = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
        if module.bias is not None:
            changed.bias = nn.Parameter(module.bias.detach() / factor)
    changed.weight = nn.Parameter(weight)
    return changed


def _conv_with_bias(conv: nn.Conv2d, bias: Tensor) -> nn.Conv2d:
    """A plain convolution with the same weights and settings, and a bias (C,)."""
    plain = nn.Conv2d(**conv_settings(conv), device="meta")
    plain.weight, plain.bias = nn.Parameter(conv.weight.detach().clone()), nn.Parameter(bias.clone())
    return plain
