"""Phase 1 of the exact mapping (Stanojevic et al. 2023): the same function as plain weighted layers and ReLUs.

Steps: read the network as a graph; scale the input to [0, 1]; fold all that is linear between two ReLUs into one weighted
layer; bound each neuron's sum of weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from respike.convert.exact.folding import fold_forward
from respike.convert.exact.reading import read_relu_graph
from respike.convert.exact.ttfs_net import unit_leads
from respike.convert.exact.weights import conv_with_bias
from respike.convert.graph.check import TOLERANCE, check_graph
from respike.convert.graph.modules import per_input
from respike.convert.graph.nodes import BiasMapConv2d, CappedReLU, Graph, Node, Weighted
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
    """Phase 1: the function of the network, for images scaled to [0, 1], as layers with bounded sums of weights.

    Nodes are weighted layers, each with its ReLU, and what selects, copies and concatenates spikes between them.

    input_shape: (C, H, W) of an image; input_range: [p, q] of the pixels that the network takes. images: a few images
    (B, C, H, W) on which the graph and the layers are compared with the network. weight_bounds: None leaves the sums of weights
    as they are, for neurons that take any, and which also take capped activations. Raises InputError for a network that
    has no exact form or differs from its graph, or for ranges and bounds that are not allowed.
    """
    graph = read_graph(net, dtype, input_shape)
    layers = read_relu_graph(graph, input_shape)
    if weight_bounds is not None:
        _refuse_caps(layers)
    check_graph(net, images)
    p, q = input_range
    images = None if images is None or not len(images) else images.to(graph.device)
    expected = None if images is None else _value(graph, layers.output, images.to(dtype))
    del graph  # its weights need not be held until the end
    layers = fold_forward(layers, input_shape, (p, q))
    if weight_bounds is not None:
        layers = bound_weight_sums(layers, input_shape, *weight_bounds)
    if images is not None and expected is not None:
        _check_value(layers.output, _value(layers, layers.output, unit_leads(images, (p, q), dtype)), expected)
    return layers


def _refuse_caps(layers: Graph) -> None:
    for node in layers.nodes.values():
        if isinstance(node.module, CappedReLU):
            raise InputError(
                f"activations of layer '{node.name}' end at {node.module.cap:.4g}, those of the exact mapping do not; "
                "type convert=none, whose neurons fire at t_min at the earliest"
            )


def _value(graph: Graph, name: str, images: Tensor) -> Tensor:
    with torch.no_grad():
        return next(value for node, value in graph.stream(images) if node == name)


def _check_value(name: str, value: Tensor, expected: Tensor) -> None:
    """Raise InputError if the output of the layers is not the network's."""
    if not (value - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise InputError(
            f"'{name}' of the mapped network does not have the values of the network; weights so large that float64 "
            "cannot hold the mapping? train with weight decay"
        )


def bound_weight_sums(graph: Graph, input_shape: Sequence[int], low: float = -10.0, high: float = 0.99) -> Graph:
    """The graph with every hidden neuron's sum of weights c in [low, high], and the same function (phase 1, step 4).

    If c lies outside, the neuron's incoming weights and bias are divided by c / bound, which is above 1, and its outgoing
    weights are multiplied by it. This keeps the function, because ReLU(f x) = f ReLU(x) for f > 0, and the same holds for
    max-pools and min-pools. high below 1 keeps 1 - sum W positive, by which the mapping divides.
    """
    if not low < 0 < high < 1:
        raise InputError(
            f"convert.weight_bounds=[{low},{high}]: one below 0 and one in (0, 1), as in convert.weight_bounds=[-10,0.99]"
        )
    shapes, nodes = graph.shapes(input_shape), {}
    factors: dict[str, Tensor | None] = {"input": None}  # of each channel of a value; None for 1
    weighted = [node.name for node in graph.nodes.values() if node.kind in ("conv", "linear")]
    for node in graph.nodes.values():
        factor = _factor(node, factors, shapes)
        if node.kind in ("conv", "linear"):
            module = node.weighted
            weight = module.weight.detach()
            if factor is not None:
                weight = weight * per_input(factor, module)
            sums = weight.flatten(1).sum(1)
            factor = torch.where(sums > high, sums / high, torch.where(sums < low, sums / low, 1))
            if node.name == weighted[-1]:
                factor = torch.ones_like(sums)
            weight = weight / factor.view(-1, *[1] * (weight.ndim - 1))
            node = Node(node.name, node.kind, node.inputs, _with_weight(module, weight, factor))
        factors[node.name], nodes[node.name] = factor, node
    return Graph(nodes, graph.output)


def _factor(node: Node, factors: dict[str, Tensor | None], shapes: dict[str, torch.Size]) -> Tensor | None:
    """The factors of the channels of a node's value, or of what a weighted layer reads; None for 1."""
    read = [factors[name] for name in node.inputs]
    first = next((factor for factor in read if factor is not None), None)
    if first is None:
        return None
    if node.kind == "cat":
        ones = first.new_ones
        channels = [shapes[name][0] for name in node.inputs]
        parts = (ones(count) if factor is None else factor for factor, count in zip(read, channels, strict=True))
        return torch.cat(list(parts))
    if node.kind not in ("flatten", "windows", "slice"):
        return first
    shape = shapes[node.inputs[0]]
    channel = torch.arange(1.0, shape[0] + 1, dtype=torch.float64, device=first.device)
    value = node.module(channel.view(1, -1, *[1] * (len(shape) - 1)).expand(1, *shape))[0]
    return first[(value.flatten(1).amax(1) - 1).clamp(min=0).long() if value.ndim > 1 else (value - 1).long()]


def _with_weight(module: Weighted, weight: Tensor, factor: Tensor) -> Weighted:
    """A layer like `module` with another weight, and the bias divided by the factor (C,)."""
    changed: Weighted
    if isinstance(module, BiasMapConv2d):
        changed = BiasMapConv2d(module, module.bias_map / factor.view(-1, 1, 1))
    elif isinstance(module, nn.Conv2d):
        bias = torch.zeros_like(factor) if module.bias is None else module.bias.detach() / factor
        changed = conv_with_bias(module, bias)
    else:
        changed = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
        if module.bias is not None:
            changed.bias = nn.Parameter(module.bias.detach() / factor)
    changed.weight = nn.Parameter(weight)
    if hasattr(module, "macs"):
        changed.register_buffer("macs", module.macs)
    return changed
