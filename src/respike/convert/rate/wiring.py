"""Connects a graph as a spiking network: which nodes become layers, and which linear paths become synapses."""

import copy
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import (
    Affine,
    BiasMapConv2d,
    CappedReLU,
    Embed,
    Graph,
    Node,
    Scale,
    affine_of,
    max_pool_of_multiples,
    per_channel,
)
from respike.convert.rate.paths import merge_path
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError
from respike.networks.copying import in_double
from respike.networks.qcfs import QCFS

MAX_POOLS = ("count", "gate", "before_neuron", "average")
READOUTS = ("counts", "current", "as_is")
WIRING = ("fold_dropout", "spiking_pools", "max_pool", "readout")  # settings of `build_rate_snn` that conversions share
log = logging.getLogger(__name__)


def build_rate_snn(
    graph: Graph,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
    input_shape: Sequence[int] | None = None,
) -> tuple[RateSNN, dict[str, str], Graph]:
    """A RateSNN with the weights of the graph; for each of its layers the node whose value it represents; that graph.

    fold_dropout: multiply the following weights by the factor 1 - p of `MaskDropout`; false omits the factor, as the authors'
    simulation does. spiking_pools: an average pool is a layer of spiking neurons; false makes it part of the synapses that
    follow. max_pool: "count", a unit whose output spikes are at every step as many as the largest count of its inputs (exact);
    "gate", which passes the spikes of the input with the largest count; "before_neuron", the maximum of the currents in front
    of the neurons if the pool follows their ReLU, else "count"; "average", average pools instead, another network. readout:
    "counts", output neurons whose spikes are counted; "current", the summed current of the output; "as_is", counts of a
    network that ends in a ReLU, which becomes its output neurons, and the current of any other. input_shape: (C, H, W), which
    constants in front of padding and concatenations need. Raises InputError for a network that rate-coded spikes cannot
    represent.
    """
    for name, value, known in (("max_pool", max_pool, MAX_POOLS), ("readout", readout, READOUTS)):
        if value not in known:
            raise InputError(f"convert.{name}={value}: unknown, choose convert.{name}={' or '.join(known)}")
    if not any(node.kind in ("linear", "conv") for node in graph.nodes.values()):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    graph = _without_end(graph, readout)
    if readout == "as_is":
        readout = "counts" if graph.nodes[graph.output].kind == "relu" else "current"
    graph = _swap_max_pools(_relus_on_maps(graph), max_pool)
    shapes = None if input_shape is None else graph.shapes(input_shape)
    plan = _plan(graph, spiking_pools, max_pool)
    rule = "gate" if max_pool == "gate" else "count"  # also of pools that are in front of no neurons
    layers: dict[str, SpikingLayer] = {}
    layer_of_node, node_of_layer = {"input": "input"}, {}
    for name, kind in plan.layers.items():
        node = graph.nodes[name]
        pool, drive = None, node.inputs[0] if kind in ("relu", "max") else name
        if name in plan.pooled_drives:
            relu = graph.nodes[node.inputs[0]]
            pool, drive = copy.deepcopy(node.module), relu.inputs[0]
        elif kind == "max":
            pool = copy.deepcopy(node.module)
        starts = set(plan.layers) - {name}
        paths = _paths(graph, drive, starts, fold_dropout, shapes)
        layer_name = _layer_name(graph, node, kind, layers)
        bias = None if kind == "max" else _silent_value(graph, drive, starts, shapes)
        synapses = [Synapse(layer_of_node[source], *merge_path(modules, layer_name)) for source, modules in paths]
        currents = {"input", *(layer for layer, made in layers.items() if made.kind == "current")}
        mark_repeated([modules for _, modules in paths], synapses, currents)
        layers[layer_name] = SpikingLayer(kind, synapses, bias, pool, rule if kind == "max" else "")
        layer_of_node[name] = layer_name
        node_of_layer[layer_name] = _represented_node(graph, node, fold_dropout)
    if not fold_dropout:
        _refuse_biases_behind_dropout(graph, layers)
    return RateSNN(layers, readout).requires_grad_(False), node_of_layer, graph


def wiring_of(convert: Callable[..., Any]) -> dict[str, Any]:
    """How a conversion connects layers: its settings, or the defaults, of `build_rate_snn`'s fold_dropout to readout.

    convert: a function like `data_norm`, a calibration on top of one, or a partial of these.
    """
    chosen, usual = _defaults(convert), _defaults(build_rate_snn)
    return wiring_of(chosen["norm"]) if "norm" in chosen else {name: chosen.get(name, usual[name]) for name in WIRING}


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _without_end(graph: Graph, readout: str) -> Graph:
    """The graph without softmax and flattening at its end, which do not change which class is largest.

    A last ReLU goes as well if the output is read by its current.
    """
    nodes, output = dict(graph.nodes), graph.output
    dropped = ("softmax", "flatten", "relu") if readout == "current" else ("softmax", "flatten")
    while nodes[output].kind in dropped:
        output = nodes.pop(output).inputs[0]
    return Graph(nodes, output)


def _relus_on_maps(graph: Graph) -> Graph:
    """ReLUs behind a flattening move in front of it, where channels can have scales of their own."""

    def movable(node: Node) -> bool:
        readers = graph.readers(node.name)
        return node.kind == "flatten" and len(readers) == 1 and readers[0].kind == "relu"

    while flatten := next(filter(movable, graph.nodes.values()), None):
        graph = _behind_its_reader(graph, flatten)
    return graph


def _swap_max_pools(graph: Graph, max_pool: str) -> Graph:
    """Max-pools pool spikes where they can: in front of a ReLU they move behind it, behind a factor and shift in front of it.

    This changes no value, if a pool takes the minimum in channels of a negative factor. Or they become average pools.
    """
    nodes = dict(graph.nodes)
    if max_pool == "average":
        for name, node in nodes.items():
            if node.kind == "maxpool":
                module = node.module
                if not isinstance(module, nn.MaxPool2d) or module.ceil_mode or module.dilation not in (1, (1, 1)):
                    raise InputError(
                        f"convert.max_pool=average: max-pool '{name}' has ceil_mode, dilation or a negative factor "
                        "around it, which its average pool cannot have; use convert.max_pool=count"
                    )
                average = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
                nodes[name] = Node(name, "avgpool", node.inputs, average)
                log.warning("max-pool '%s' is replaced by an average pool: this is another network", name)
        return Graph(nodes, graph.output)
    graph = Graph(nodes, graph.output)
    while pool := next((node for node in graph.nodes.values() if _can_move(graph, node)), None):
        graph = _behind_its_reader(graph, pool)
    graph = fold_batch_norms(graph)
    while pool := next((node for node in graph.nodes.values() if _reads_affine(graph, node)), None):
        graph = _in_front_of_its_source(graph, pool)
    return graph


def _can_move(graph: Graph, node: Node) -> bool:
    """Whether a node is a max-pool of values that are no spikes, read by one operation that keeps or reverses their order."""
    readers = graph.readers(node.name)
    return (
        node.kind == "maxpool"
        and not _is_rectified(graph, node.inputs[0])
        and len(readers) == 1
        and _is_monotone(readers[0])
    )


def _is_rectified(graph: Graph, name: str) -> bool:
    if name == "input" or graph.nodes[name].kind == "relu":
        return True
    node = graph.nodes[name]
    passing = ("maxpool", "avgpool", "cat", "flatten", "dropout_scale")
    return node.kind in passing and all(_is_rectified(graph, source) for source in node.inputs)


def _behind_its_reader(graph: Graph, pool: Node) -> Graph:
    """The graph in which a max-pool, or a flattening, and the one operation that reads it have changed places."""
    (later,) = graph.readers(pool.name)
    nodes: dict[str, Node] = {}
    for node in graph.nodes.values():
        if node is pool:
            nodes[later.name] = Node(later.name, later.kind, pool.inputs, later.module)
            nodes[pool.name] = Node(pool.name, pool.kind, (later.name,), _multiples(pool.module, affine_of(later)))
        elif node is not later:
            inputs = tuple(pool.name if name == later.name else name for name in node.inputs)
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
    return Graph(nodes, pool.name if graph.output == later.name else graph.output)


def _is_monotone(node: Node) -> bool:
    """Whether a node is a ReLU, or a factor and shift per channel."""
    return node.kind == "relu" or affine_of(node) is not None


def _reads_affine(graph: Graph, node: Node) -> bool:
    """Whether a node is a max-pool behind a factor and shift per channel."""
    source = graph.nodes.get(node.inputs[0])
    return node.kind == "maxpool" and source is not None and affine_of(source) is not None


def _in_front_of_its_source(graph: Graph, pool: Node) -> Graph:
    """The graph in which a max-pool pools what its source reads, and a copy of its source follows the pool."""
    source = graph.nodes[pool.inputs[0]]
    behind = f"{source.name}_{pool.name}"
    nodes: dict[str, Node] = {}
    for node in graph.nodes.values():
        if node is pool:
            module = _multiples(pool.module, affine_of(source))
            nodes[pool.name] = Node(pool.name, pool.kind, source.inputs, module)
            nodes[behind] = Node(behind, source.kind, (pool.name,), source.module)
        else:
            inputs = tuple(behind if name == pool.name else name for name in node.inputs)
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
    if all(source.name not in node.inputs for node in nodes.values()):
        del nodes[source.name]
    return Graph(nodes, behind if graph.output == pool.name else graph.output)


def _multiples(pool: nn.Module, affine: Affine | None) -> nn.Module:
    """The max-pool of values as a pool of their multiples, or the other way round."""
    return pool if affine is None else max_pool_of_multiples(pool, affine.factor)


@dataclass(frozen=True)
class _Plan:
    """layers: the nodes that become layers, with their kind; pooled_drives: max-pools in front of neurons."""

    layers: dict[str, str]
    pooled_drives: frozenset[str]


def _plan(graph: Graph, spiking_pools: bool, max_pool: str) -> _Plan:
    """Which nodes become layers: ReLUs, pools that read spikes, currents that are carried, and the output."""
    layers: dict[str, str] = {}
    pooled: set[str] = set()
    for name, node in graph.nodes.items():
        if node.kind == "relu":
            readers = graph.readers(name)
            if max_pool == "before_neuron" and len(readers) == 1 and readers[0].kind == "maxpool":
                pooled.add(readers[0].name)  # the pool's node stands for the neurons
            else:
                layers[name] = "relu"
        elif name in pooled:
            layers[name] = "relu"
        elif node.kind == "maxpool":
            if not _are_spikes(graph, node.inputs[0], layers):
                layers[node.inputs[0]] = "current"  # the largest sum of currents is that of the largest mean
            layers[name] = "max"
        elif node.kind == "avgpool" and spiking_pools and _reads_spikes(graph, node.inputs[0], layers):
            layers[name] = "pool"
        elif node.kind == "softmax":
            raise InputError(
                f"softmax '{name}' is inside the network; rate conversion drops a softmax only at the output"
            )
    _carry_currents(graph, layers)
    if layers.get(graph.output) in (None, "current"):
        last = graph.nodes[graph.output]
        pools_spikes = last.kind == "avgpool" and _reads_spikes(graph, last.inputs[0], layers)
        layers[graph.output] = "pool" if pools_spikes else "output"
    return _Plan({name: layers[name] for name in graph.nodes if name in layers}, frozenset(pooled))


def _reads_spikes(graph: Graph, name: str, layers: dict[str, str]) -> bool:
    """Whether a node's value is the spikes of one layer, flattened or multiplied by a constant."""
    if name in layers or name == "input":
        return _fires(graph, name, layers)
    node = graph.nodes[name]
    if (
        isinstance(node.module, Scale)
        and not 0 <= float(node.module.factor.min()) <= float(node.module.factor.max()) <= 1
    ):
        return False  # neurons of the same scale would be silent, or saturate
    return node.kind in ("flatten", "dropout_scale", "scale") and _reads_spikes(graph, node.inputs[0], layers)


def _fires(graph: Graph, name: str, layers: dict[str, str]) -> bool:
    """Whether a node's values are spikes, or largest spikes, of neurons: not those of the input, nor currents."""
    if name == "input" or layers.get(name) in ("relu", "pool"):
        return name != "input"
    node = graph.nodes[name]
    pooled = layers.get(name) == "max" or (name not in layers and node.kind == "cat")
    return pooled and all(_fires(graph, source, layers) for source in node.inputs)


def _are_spikes(graph: Graph, name: str, layers: dict[str, str]) -> bool:
    """Whether a node's value is the input, the spikes of a layer, or a concatenation of these."""
    if name in layers or name == "input":
        return True
    node = graph.nodes[name]
    return node.kind == "cat" and all(_are_spikes(graph, source, layers) for source in node.inputs)


def _carry_currents(graph: Graph, layers: dict[str, str]) -> None:
    """Add the values carried without neurons: those between two weighted operations, and those read by several layers."""
    weights_before = {"input": False}  # whether a weighted operation lies between a layer and this value
    for name, node in graph.nodes.items():
        for source in node.inputs:
            if node.kind in ("conv", "linear") and weights_before[source]:
                layers[source] = "current"
                weights_before[source] = False
        weighted = node.kind in ("conv", "linear") or any(weights_before[source] for source in node.inputs)
        weights_before[name] = weighted and name not in layers
    ends: dict[str, set[str]] = {}
    for name, node in reversed(list(graph.nodes.items())):
        reached: set[str] = {name} if name == graph.output and name not in layers else set()
        for reader in graph.readers(name):
            reached |= {reader.name} if reader.name in layers else ends[reader.name]
        ends[name] = reached
        if node.kind in ("conv", "linear") and name not in layers and len(reached) > 1:
            layers[name] = "current"


def _paths(
    graph: Graph, name: str, starts: set[str], fold_dropout: bool, shapes: dict[str, torch.Size] | None
) -> list[tuple[str, list[nn.Module]]]:
    """All linear paths that end in node `name`: (layer's node or "input" at its start, modules along it without shifts)."""
    if name == "input" or name in starts:
        return [(name, [])]
    node = graph.nodes[name]
    if node.kind == "cat":
        return [
            (source, [*modules, embed])
            for part, embed in zip(node.inputs, _embeds(node, shapes), strict=True)
            for source, modules in _paths(graph, part, starts, fold_dropout, shapes)
        ]
    before = [path for source in node.inputs for path in _paths(graph, source, starts, fold_dropout, shapes)]
    if node.kind == "add" or (node.kind == "dropout_scale" and not fold_dropout):
        return before
    affine = affine_of(node)
    step = node.module if affine is None else Scale(affine.factor)
    return [(source, [*modules, step]) for source, modules in before]


def mark_repeated(paths: Sequence[Sequence[nn.Module]], synapses: Sequence[Synapse], currents: set[str]) -> None:
    """Mark synapses whose weights are those of an earlier one in the network, where both read one sum: see `Synapse.repeats`.

    paths: of modules of the network. Parts of a concatenation have weights of their own. currents: sources that may hand on
    currents, whose products are counted apart from those on spikes: a sum with one of them stays as it is.
    """
    readers: dict[int, list[Synapse]] = {}
    for path, synapse in zip(paths, synapses, strict=True):
        own = synapse.weighted
        whole = next((module for module in path if isinstance(module, nn.Linear | nn.Conv2d)), None)
        if whole is not None and isinstance(own, nn.Linear | nn.Conv2d) and own.weight.shape == whole.weight.shape:
            readers.setdefault(id(whole), []).append(synapse)
    for alike in readers.values():
        if currents.isdisjoint(synapse.source for synapse in alike):
            for synapse in alike[1:]:
                synapse.repeats = True


def _embeds(node: Node, shapes: dict[str, torch.Size] | None) -> list[Embed]:
    """Where each branch of a concatenation lies among its channels."""
    if shapes is None:
        raise InputError(f"the concatenation '{node.name}' needs to know the images' shape; convert with images")
    channels = [shapes[source][0] for source in node.inputs]
    return [Embed(sum(channels[:i]), number, sum(channels[i + 1 :])) for i, number in enumerate(channels)]


def _silent_value(graph: Graph, name: str, starts: set[str], shapes: dict[str, torch.Size] | None) -> Tensor | None:
    """The value of a node if no layer spikes: the sum of all biases and shifts, (C,) or (C, H, W); None if it is 0.

    Near a zero-padded border a shift in front of a convolution acts through a part of the kernel, so that places differ.
    """
    if name == "input" or name in starts:
        return None
    node = graph.nodes[name]
    before = [_silent_value(graph, source, starts, shapes) for source in node.inputs]
    module, affine = node.module, affine_of(node)
    if all(value is None for value in before):
        if affine is not None:
            shift = affine.shift.to(graph.dtype)
            value = None if not bool(shift.any()) else shift
        elif node.kind in ("conv", "linear"):
            bias = module.bias_map if isinstance(module, BiasMapConv2d) else module.bias
            value = None if bias is None else bias.detach().clone()
        else:
            value = None
        return value if value is None or value.ndim else value.expand(_channels(node, shapes)).clone()
    if shapes is None:
        return _per_channel_constant(node, [value for value in before if value is not None])
    with torch.no_grad():
        values = [
            torch.zeros(1, *shapes[source], dtype=graph.dtype, device=graph.device) if value is None
            else (value if value.ndim == len(shapes[source]) else value.view(-1, 1, 1)).expand(shapes[source])[None]
            for source, value in zip(node.inputs, before, strict=True)
        ]  # fmt: skip
        whole = module(*values)[0]
    first = whole.flatten(1)[:, 0] if whole.ndim > 1 else whole
    return first.clone() if bool((whole == first.view(-1, *[1] * (whole.ndim - 1))).all()) else whole


def _per_channel_constant(node: Node, values: list[Tensor]) -> Tensor:
    """What a node makes of constants per channel (C,), where that does not depend on the images' shape."""
    module, affine, value = node.module, affine_of(node), values[0]
    if node.kind == "add":
        return torch.stack(values).sum(0)
    if affine is not None:
        return value * affine.factor.to(value) + affine.shift.to(value)
    if isinstance(module, nn.Linear):
        whole = value.repeat_interleave(module.in_features // len(value))
        return nn.functional.linear(whole, module.weight, module.bias).detach()
    if node.kind in ("flatten", "avgpool", "maxpool") and getattr(module, "padding", 0) in (0, (0, 0)):
        return value
    raise InputError(f"layer '{node.name}' reads a constant, which needs the images' shape; convert with images")


def _channels(node: Node, shapes: dict[str, torch.Size] | None) -> int:
    if shapes is None:
        raise InputError(f"the constant '{node.name}' needs the images' shape; convert with images")
    return shapes[node.name][0]


def _layer_name(graph: Graph, node: Node, kind: str, taken: dict[str, SpikingLayer]) -> str:
    """A layer is named after its one weighted operation; a pool or a sum of branches is named after its node."""
    if kind in ("max", "pool", "current") or node.kind in ("linear", "conv", "avgpool"):
        return node.name
    seen = node
    while (
        len(seen.inputs) == 1
        and seen.inputs[0] in graph.nodes
        and (seen is node or seen.kind in ("flatten", "dropout_scale", "relu"))
    ):
        seen = graph.nodes[seen.inputs[0]]
    return seen.name if seen.kind in ("linear", "conv") and seen.name not in taken else node.name


def _represented_node(graph: Graph, node: Node, fold_dropout: bool) -> str:
    """The node whose value a layer represents: the dropout node behind it if the weights lack the dropout's factor."""
    readers = graph.readers(node.name)
    if not fold_dropout and len(readers) == 1 and readers[0].kind == "dropout_scale":
        return readers[0].name
    return node.name


def _refuse_biases_behind_dropout(graph: Graph, layers: dict[str, SpikingLayer]) -> None:
    dropped = any(node.kind == "dropout_scale" for node in graph.nodes.values())
    if dropped and any(layer.bias is not None for layer in layers.values()):
        raise InputError(
            "convert.fold_dropout=false changes the function of a network with biases; use convert.fold_dropout=true"
        )


def check_rate_snn(
    snn: RateSNN, graph: Graph, node_of_layer: dict[str, str], images: Tensor, fold_dropout: bool = True
) -> None:
    """Raise InputError if a layer of the network, with ReLUs in place of neurons, is not its node up to the layer's scale.

    On a few images (B, C, H, W) and in float64, so that only the rounding of rescaled weights is left. A QCFS stands for the
    function that it quantizes, a ReLU capped at its threshold. fold_dropout: as in `build_rate_snn`; false compares with the
    graph without the factor of `MaskDropout`.
    """
    tolerance = torch.finfo(graph.dtype).eps ** 0.5
    images, nodes = images.cpu().double(), {}
    for name, node in graph.nodes.items():
        drop = node.kind == "dropout_scale" and not fold_dropout
        module = nn.Identity() if drop else node.module
        if isinstance(module, QCFS):  # the rounding of weights would change its level
            module = CappedReLU(float(module.threshold))
        nodes[name] = Node(name, node.kind, node.inputs, _InDouble(module))
    layer_of_node = {node: layer for layer, node in node_of_layer.items()}
    expected, values = {}, {"input": images}
    with torch.no_grad():
        for place, value in Graph(nodes, graph.output).stream(images):
            if place in layer_of_node:
                expected[layer_of_node[place]] = value.clone()  # a ReLU in place may follow
        for name in snn.layers:
            layer = in_double(snn.layer(name))
            scale = per_channel(torch.as_tensor(snn.scales[name], dtype=torch.float64), expected[name])
            drive = layer.drive(values)
            value = layer.pool(drive) if layer.kind == "max" and layer.pool is not None else drive
            if layer.kind == "relu":
                value = (value * scale).clamp(0, cap_of(graph, node_of_layer[name])) / scale
            values[name] = value
            size = (drive * scale).abs().max() if layer.kind != "max" else (value * scale).abs().max()
            if not (value * scale - expected[name]).abs().max() <= tolerance * size:
                largest = max(float(torch.as_tensor(found).max()) for found in snn.scales.values())
                raise InputError(
                    f"layer '{name}' of the spiking network does not have the values of the network: with scales up to "
                    f"{largest:.2g} weights or biases leave the range of {graph.dtype}; normalize otherwise"
                )


class _InDouble(nn.Module):
    """A module in float64 and on the CPU, as a copy that lives as long as a call, so that one is in memory at a time."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *values: Tensor) -> Tensor:
        return in_double(self.module)(*values)


def cap_of(graph: Graph, name: str) -> float | None:
    """The largest value of a ReLU, or of the one in front of a max-pool or a dropped factor; None if it has no cap."""
    node = graph.nodes[name]
    while node.kind in ("maxpool", "dropout_scale"):
        node = graph.nodes[node.inputs[0]]
    if isinstance(node.module, QCFS):
        return float(node.module.threshold)
    return node.module.cap if isinstance(node.module, CappedReLU) else None
