"""Rewires a graph as a spiking network: which nodes spike, and along which paths they drive each other."""

import copy

from torch import nn

from respike.convert.graph.nodes import Graph, Node, Scale
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer, Synapse
from respike.errors import InputError


def _is_spiking(graph: Graph, node: Node, spiking_pools: bool) -> bool:
    """ReLUs and the output spike; a pool does where it reads spikes and not the sum in front of a ReLU."""
    if node.kind == "relu" or node.name == graph.output:
        return True
    if node.kind != "avgpool" or not spiking_pools:
        return False
    source = node.inputs[0]
    while source != "input" and graph.nodes[source].kind in ("flatten", "dropout_scale", "scale"):
        source = graph.nodes[source].inputs[0]
    return source != "input" and _is_spiking(graph, graph.nodes[source], spiking_pools)


def _paths(graph: Graph, name: str, spiking: set[str], fold_dropout: bool) -> list[tuple[str, list[nn.Module]]]:
    """All linear paths that end in node `name`: (spiking source, modules on the way)."""
    if name == "input" or name in spiking:
        return [(name, [])]
    node = graph.nodes[name]
    _refuse(node)
    skipped = node.kind == "add" or (node.kind == "dropout_scale" and not fold_dropout)
    step = [Scale(1 - node.module.p) if node.kind == "dropout_scale" else copy.deepcopy(node.module)]
    before = [path for source in node.inputs for path in _paths(graph, source, spiking, fold_dropout)]
    return [(source, modules + ([] if skipped else step)) for source, modules in before]


def _refuse(node: Node) -> None:
    if node.kind == "maxpool":
        raise InputError(
            f"layer '{node.name}' is a max-pool, which rate-coded spikes do not have; use nn.AvgPool2d instead"
        )
    if node.kind == "batchnorm":
        raise InputError(
            f"batch norm '{node.name}' does not directly follow a Conv2d or Linear layer and cannot be folded; move it there"
        )
    if node.kind == "softmax":
        raise InputError(
            f"softmax '{node.name}' stands inside the network; rate conversion drops it at the output only"
        )


def _merge_factors(layer: str, modules: list[nn.Module]) -> list[nn.Module]:
    """Constant factors on a path, multiplied into its one weighted module; only those behind it reach its bias."""
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
    kept = [module for module in modules if not isinstance(module, Scale)]
    synapse = Synapse("", *kept)
    if before * after != 1:
        synapse.rescale(before * after, after)
    return list(synapse)


def _layer_name(graph: Graph, node: Node) -> str:
    """A layer is called after its one weighted operation; a pool, or a sum of branches, after its own node."""
    seen = node
    if node.kind in ("linear", "conv"):
        return node.name
    while (
        len(seen.inputs) == 1
        and seen.inputs[0] in graph.nodes
        and (seen is node or seen.kind in ("flatten", "dropout_scale"))
    ):
        seen = graph.nodes[seen.inputs[0]]
    return seen.name if node.kind != "avgpool" and seen.kind in ("linear", "conv") else node.name


def build(graph: Graph, fold_dropout: bool = True, spiking_pools: bool = True) -> tuple[RateSNN, dict[str, str]]:
    """A RateSNN with the graph's own weights, and for each of its layers the node whose value it stands for.

    fold_dropout: keep the factor 1 - p of `MaskDropout` in the following weights; false leaves it out, as the authors'
    simulation does. spiking_pools: average pools are neurons of their own; false makes them part of the synapses.
    """
    if not any(node.kind in ("linear", "conv") for node in graph.nodes.values()):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    graph = _without_tail(graph)
    nodes = [node for node in graph.nodes.values() if _is_spiking(graph, node, spiking_pools)]
    spiking = {node.name for node in nodes}
    renamed, layers, taps = {"input": "input"}, {}, {}
    for node in nodes:
        pool = node.kind == "avgpool" and node.name in spiking
        if node.kind == "relu" or pool:
            paths = [path for source in node.inputs for path in _paths(graph, source, spiking, fold_dropout)]
        else:
            paths = _paths(graph, node.name, spiking - {node.name}, fold_dropout)
        name = _layer_name(graph, node)
        own = [copy.deepcopy(node.module)] if pool else []
        synapses = [Synapse(renamed[source], *_merge_factors(name, modules + own)) for source, modules in paths]
        kind = node.kind if node.kind == "relu" else "pool" if pool else "output"
        layers[name], renamed[node.name] = SpikingLayer(kind, synapses), name
        taps[name] = _tap(graph, node, fold_dropout)
    snn = RateSNN(layers).requires_grad_(False)
    if not fold_dropout:
        _check_no_bias(graph, snn)
    return snn, taps


def _without_tail(graph: Graph) -> Graph:
    """The graph up to the last node that computes: which class is largest survives a softmax and a flattening."""
    nodes, output = dict(graph.nodes), graph.output
    while nodes[output].kind in ("softmax", "flatten"):
        output = nodes.pop(output).inputs[0]
    return Graph(nodes, output)


def _check_no_bias(graph: Graph, snn: RateSNN) -> None:
    dropped = any(node.kind == "dropout_scale" for node in graph.nodes.values())
    if dropped and any(synapse.bias is not None for layer in snn.layers.values() for synapse in layer.synapses):
        raise InputError(
            "convert.fold_dropout=false changes the function of a network with biases; use convert.fold_dropout=true"
        )


def _tap(graph: Graph, node: Node, fold_dropout: bool) -> str:
    """The node whose value a layer stands for: with the dropout factor where the weights lack it."""
    readers = graph.readers(node.name)
    if not fold_dropout and len(readers) == 1 and readers[0].kind == "dropout_scale":
        return readers[0].name
    return node.name
