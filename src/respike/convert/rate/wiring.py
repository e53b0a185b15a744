"""Connects a graph as a spiking network: which nodes become spiking layers, and which linear paths become synapses."""

import copy

import torch
from torch import Tensor, nn

from respike.convert.graph.nodes import Graph, Node, Scale
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError


def build_rate_snn(
    graph: Graph, fold_dropout: bool = True, spiking_pools: bool = True
) -> tuple[RateSNN, dict[str, str]]:
    """A RateSNN with the weights of the graph, and for each of its layers the node whose value the layer represents.

    fold_dropout: multiply the following weights by the factor 1 - p of `MaskDropout`; false omits the factor, as the authors'
    simulation does. spiking_pools: an average pool is a layer of spiking neurons; false makes it part of the synapses that
    follow. Raises InputError for a network that rate-coded spikes cannot represent.
    """
    if not any(node.kind in ("linear", "conv") for node in graph.nodes.values()):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    graph = _without_final_softmax(graph)
    nodes = [node for node in graph.nodes.values() if _is_spiking(graph, node, spiking_pools)]
    spiking = {node.name for node in nodes}
    layer_of_node, layers, node_of_layer = {"input": "input"}, {}, {}
    for node in nodes:
        is_pool = node.kind == "avgpool" and node.name in spiking
        if node.kind == "relu" or is_pool:
            paths = [path for source in node.inputs for path in _paths(graph, source, spiking, fold_dropout)]
        else:
            paths = _paths(graph, node.name, spiking - {node.name}, fold_dropout)
        name = _layer_name(graph, node)
        pool = [copy.deepcopy(node.module)] if is_pool else []
        synapses = [Synapse(layer_of_node[source], *_merge_factors(name, modules + pool)) for source, modules in paths]
        kind = "relu" if node.kind == "relu" else "pool" if is_pool else "output"
        layers[name] = SpikingLayer(kind, synapses)
        layer_of_node[node.name] = name
        node_of_layer[name] = _represented_node(graph, node, fold_dropout)
    snn = RateSNN(layers).requires_grad_(False)
    if not fold_dropout:
        _refuse_biases_behind_dropout(graph, snn)
    return snn, node_of_layer


def _without_final_softmax(graph: Graph) -> Graph:
    """The graph without softmax and flattening at its end: they do not change which class is largest."""
    nodes, output = dict(graph.nodes), graph.output
    while nodes[output].kind in ("softmax", "flatten"):
        output = nodes.pop(output).inputs[0]
    return Graph(nodes, output)


def _is_spiking(graph: Graph, node: Node, spiking_pools: bool) -> bool:
    """Whether a node becomes a spiking layer: ReLUs, the output, and a pool that reads spikes.

    A pool that reads the drive in front of a ReLU is a linear part of that drive.
    """
    if node.kind == "relu" or node.name == graph.output:
        return True
    if node.kind != "avgpool" or not spiking_pools:
        return False
    source = node.inputs[0]
    while source != "input" and graph.nodes[source].kind in ("flatten", "dropout_scale", "scale"):
        source = graph.nodes[source].inputs[0]
    return source != "input" and _is_spiking(graph, graph.nodes[source], spiking_pools)


def _paths(graph: Graph, name: str, spiking: set[str], fold_dropout: bool) -> list[tuple[str, list[nn.Module]]]:
    """All linear paths that end in node `name`: (spiking node or "input" at its start, modules along it)."""
    if name == "input" or name in spiking:
        return [(name, [])]
    node = graph.nodes[name]
    _refuse(node)
    if node.kind == "add" or (node.kind == "dropout_scale" and not fold_dropout):
        step: list[nn.Module] = []
    elif node.kind == "dropout_scale":
        step = [Scale(1 - node.module.p)]
    else:
        step = [copy.deepcopy(node.module)]
    before = [path for source in node.inputs for path in _paths(graph, source, spiking, fold_dropout)]
    return [(source, modules + step) for source, modules in before]


def _refuse(node: Node) -> None:
    if node.kind == "maxpool":
        raise InputError(
            f"layer '{node.name}' is a max-pool, which rate-coded spikes cannot compute; use nn.AvgPool2d instead"
        )
    if node.kind == "batchnorm":
        raise InputError(
            f"batch norm '{node.name}' does not directly follow a Conv2d or Linear layer and cannot be folded; move it there"
        )
    if node.kind == "softmax":
        raise InputError(
            f"softmax '{node.name}' is inside the network; rate conversion drops a softmax only at the output"
        )


def _merge_factors(layer: str, modules: list[nn.Module]) -> list[nn.Module]:
    """The modules of a path with its constant factors multiplied into the weighted module.

    All factors multiply the weights; only factors behind the weighted module multiply its bias.
    """
    weighted = [module for module in modules if isinstance(module, nn.Linear | nn.Conv2d)]
    if len(weighted) > 1:
        raise InputError(
            f"two weighted layers without a ReLU between them lead to '{layer}'; put a ReLU between or merge them"
        )
    before = after = 1.0
    for module in modules:
        if isinstance(module, Scale):
            after *= float(module.factor)
        elif module in weighted:
            before, after = after, 1.0
    synapse = Synapse("", *(module for module in modules if not isinstance(module, Scale)))
    if before * after != 1:
        synapse.rescale(before * after, after)
    return list(synapse)


def _layer_name(graph: Graph, node: Node) -> str:
    """A layer is named after its one weighted operation; a pool or a sum of branches is named after its node."""
    if node.kind in ("linear", "conv", "avgpool"):
        return node.name
    seen = node
    while (
        len(seen.inputs) == 1
        and seen.inputs[0] in graph.nodes
        and (seen is node or seen.kind in ("flatten", "dropout_scale"))
    ):
        seen = graph.nodes[seen.inputs[0]]
    return seen.name if seen.kind in ("linear", "conv") else node.name


def _represented_node(graph: Graph, node: Node, fold_dropout: bool) -> str:
    """The node whose value a layer represents: the dropout node behind it if the weights lack the dropout's factor."""
    readers = graph.readers(node.name)
    if not fold_dropout and len(readers) == 1 and readers[0].kind == "dropout_scale":
        return readers[0].name
    return node.name


def _refuse_biases_behind_dropout(graph: Graph, snn: RateSNN) -> None:
    dropped = any(node.kind == "dropout_scale" for node in graph.nodes.values())
    if dropped and any(synapse.bias is not None for layer in snn.layers.values() for synapse in layer.synapses):
        raise InputError(
            "convert.fold_dropout=false changes the function of a network with biases; use convert.fold_dropout=true"
        )


def check_rate_snn(
    snn: RateSNN, graph: Graph, node_of_layer: dict[str, str], images: Tensor, fold_dropout: bool = True
) -> None:
    """Raise InputError if a layer of the network, with ReLUs in place of neurons, is not its node up to the layer's scale.

    On a few images (B, C, H, W) and in float64, so that only the rounding of rescaled weights is left. fold_dropout: as in
    `build_rate_snn`; false compares with the graph without the factor of `MaskDropout`.
    """
    tolerance = torch.finfo(graph.dtype).eps ** 0.5
    snn, images, nodes = copy.deepcopy(snn).cpu().double(), images.cpu().double(), {}
    for name, node in graph.nodes.items():
        drop = node.kind == "dropout_scale" and not fold_dropout
        module = nn.Identity() if drop else copy.deepcopy(node.module).cpu().double()
        nodes[name] = Node(name, node.kind, node.inputs, module)
    layer_of_node = {node: layer for layer, node in node_of_layer.items()}
    expected, values = {}, {"input": images}
    with torch.no_grad():
        for place, value in Graph(nodes, graph.output).stream(images):
            if place in layer_of_node:
                expected[layer_of_node[place]] = value.clone()  # a ReLU in place may follow
        for name, layer in snn.layers.items():
            drive = layer.drive(values)
            values[name] = drive.relu() if layer.kind == "relu" else drive
            difference = (values[name] * snn.scales[name] - expected[name]).abs().max()
            if not difference <= tolerance * drive.abs().max() * snn.scales[name]:
                raise InputError(
                    f"layer '{name}' of the spiking network does not have the values of the network: with scales up to "
                    f"{max(snn.scales.values()):.2g} weights or biases leave the range of {graph.dtype}; normalize otherwise"
                )
