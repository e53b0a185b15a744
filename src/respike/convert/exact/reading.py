"""Reads a ReLU network as the graph that the exact mapping folds: max-pools stand behind ReLUs, and nothing is left out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import CappedReLU, Graph, Node, max_pool_of_multiples
from respike.errors import InputError
from respike.networks.qcfs import QCFS

MAPPED = (
    "Linear, Conv2d, ReLU, MaxPool2d, average pools, BatchNorm, Flatten, Dropout, constants, additions, concatenations"
)
PASSED = ("maxpool", "avgpool", "flatten", "pad", "slice", "add", "cat")  # what is 0 or more where its inputs are


def read_relu_graph(graph: Graph, input_shape: Sequence[int]) -> Graph:
    """The graph with every max-pool behind the ReLU of its weighted layer, and batch norms between them folded into the layer.

    Dropped are softmax and flattening at the end, adaptive pools that keep every pixel, and repeated ReLUs. input_shape:
    (C, H, W). Raises InputError for operations without an exact form in spike times.
    """
    nodes, output = dict(graph.nodes), graph.output
    while output in nodes and nodes[output].kind in ("softmax", "flatten") and len(graph.readers(output)) == 0:
        output = nodes.pop(output).inputs[0]
        graph = Graph(nodes, output)
    shapes = graph.shapes(input_shape)
    graph = _without(graph, [node.name for node in nodes.values() if _is_identity_pool(node, shapes)])
    for node in graph.nodes.values():
        _refuse_unmapped(node)
    if not any(node.kind in ("conv", "linear") for node in graph.nodes.values()):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    return fold_batch_norms(_drop_repeated_relus(_in_runs(graph, _move_pools_behind_relus)))


def _without(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph without some nodes of one input, which their readers then read."""
    read: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes.values():
        inputs = tuple(read.get(name, name) for name in node.inputs)
        if node.name in names:
            read[node.name] = inputs[0]
        else:
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
    return Graph(nodes, read.get(graph.output, graph.output))


def _in_runs(graph: Graph, change: Callable[[list[Node]], list[Node]]) -> Graph:
    """The graph with each run of nodes, of which every one is the only reader of the one before, in another order."""
    runs: dict[str, list[Node]] = {}  # by the last node
    for node in graph.nodes.values():
        alone = len(node.inputs) == 1 and len(graph.readers(node.inputs[0])) == 1 and node.inputs[0] != graph.output
        runs[node.name] = [*(runs.pop(node.inputs[0], []) if alone else []), node]
    places = {name: place for place, name in enumerate(graph.nodes)}
    read: dict[str, str] = {}  # last node of a run -> the one that is last now
    nodes: dict[str, Node] = {}
    for run in sorted(runs.values(), key=lambda run: places[run[0].name]):
        inputs = tuple(read.get(name, name) for name in run[0].inputs)
        for node in change(run):
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
            inputs = (node.name,)
        read[run[-1].name] = inputs[0]
    return Graph(nodes, read.get(graph.output, graph.output))


def _is_identity_pool(node: Node, shapes: dict[str, torch.Size]) -> bool:
    """An adaptive pool that keeps every pixel, as torchvision's VGG has on images of 224 pixels."""
    return isinstance(node.module, nn.AdaptiveAvgPool2d) and shapes[node.name] == shapes[node.inputs[0]]


def _refuse_unmapped(node: Node) -> None:
    if isinstance(node.module, QCFS):
        raise InputError(
            f"layer '{node.name}' has quantized activations, which single spike times cannot represent; type method=rate "
            "convert=qcfs"
        )
    if node.kind == "softmax":
        raise InputError(
            f"layer '{node.name}' ({type(node.module).__name__}) has no exact form in spike times; supported: {MAPPED}"
        )
    if isinstance(node.module, nn.Conv2d) and node.module.padding_mode != "zeros":
        raise InputError(f"layer '{node.name}' pads by {node.module.padding_mode}; the exact mapping takes zeros only")
    if getattr(node.module, "return_indices", False):
        raise InputError(f"max-pool '{node.name}' returns indices; set return_indices=False")


def _move_pools_behind_relus(nodes: list[Node]) -> list[Node]:
    """Move each max-pool between a weighted layer and its ReLU behind that ReLU, and behind the batch norms before it."""
    nodes = list(nodes)
    for i in range(len(nodes)):
        k = i
        while k > 1 and nodes[k].kind in ("relu", "batchnorm") and nodes[k - 1].kind == "maxpool":
            start = k - 1
            while start > 0 and nodes[start].kind in ("maxpool", "batchnorm"):
                start -= 1
            if nodes[start].kind not in ("conv", "linear", "add"):
                break
            pool = nodes[k - 1]
            if nodes[k].kind == "batchnorm" and nodes[k].module.affine:
                module = max_pool_of_multiples(pool.module, nodes[k].module.weight.detach())
                pool = replace(pool, module=module)
            nodes[k - 1], nodes[k] = nodes[k], pool
            k -= 1
    return nodes


def _drop_repeated_relus(graph: Graph) -> Graph:
    """Drop each ReLU whose input is 0 or more already, but those whose spikes a max-pool needs in place of sums or means."""
    rectified: set[str] = set()
    summed: set[str] = set()
    for node in graph.nodes.values():
        if node.kind in ("add", "avgpool") or (node.kind in PASSED and summed.intersection(node.inputs)):
            summed.add(node.name)
        if node.kind == "relu" or (node.kind in PASSED and rectified.issuperset(node.inputs)):
            rectified.add(node.name)
    repeated = [
        node.name
        for node in graph.nodes.values()
        if node.kind == "relu"
        and node.inputs[0] in rectified
        and not isinstance(node.module, CappedReLU)
        and not (node.inputs[0] in summed and any(reader.kind == "maxpool" for reader in graph.readers(node.name)))
    ]
    return _without(graph, repeated)
