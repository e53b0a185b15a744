"""A ReLU network as a chain: weighted layers with ReLUs between them, what the exact mapping carries over."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import Graph, Node, SignedMaxPool2d
from respike.errors import InputError

MAPPED = "Linear, Conv2d, ReLU, MaxPool2d, BatchNorm, Flatten, Dropout and constant factors, one after the other"


def read_chain(graph: Graph, input_shape: tuple[int, ...]) -> Graph:
    """The graph, each node reading the one before, with every ReLU directly behind its weighted layer.

    Softmax and flattening at the end are dropped, as are pools of one pixel and second ReLUs; a ReLU behind a max-pool changes
    place with it. Raises InputError for branches and operations that spike times do not have.
    """
    nodes, previous = [], "input"
    for node in graph.nodes.values():
        if node.inputs != (previous,):
            raise InputError(
                f"branches meet at '{node.name}'; the exact mapping takes chains of layers (rate coding takes branches)"
            )
        nodes.append(node)
        previous = node.name
    while nodes and nodes[-1].kind in ("softmax", "flatten"):
        nodes.pop()
    shapes = graph.shapes(input_shape)
    nodes = [node for node in nodes if not _is_identity(node, shapes)]
    for node in nodes:
        _check(node)
    graph = fold_batch_norms(linked(_without_repeats(_pools_last(nodes))))
    _check_order(list(graph.nodes.values()))
    return graph


def linked(nodes: list[Node]) -> Graph:
    """The graph in which each node reads the one before."""
    sources = ["input", *(node.name for node in nodes)]
    chain = zip(nodes, sources[:-1], strict=True)
    return Graph({node.name: Node(node.name, node.kind, (source,), node.module) for node, source in chain}, sources[-1])


def _is_identity(node: Node, shapes: dict) -> bool:
    """An adaptive pool, as in torchvision's VGG, that keeps every pixel."""
    return isinstance(node.module, nn.AdaptiveAvgPool2d) and shapes[node.name] == shapes[node.inputs[0]]


def _check(node: Node) -> None:
    if node.kind in ("avgpool", "add", "softmax"):
        raise InputError(
            f"layer '{node.name}' ({type(node.module).__name__}) has no exact form in spike times; mapped are {MAPPED}"
        )
    if isinstance(node.module, nn.Conv2d) and node.module.padding_mode != "zeros":
        raise InputError(f"layer '{node.name}' pads by {node.module.padding_mode}; the exact mapping takes zeros only")
    if getattr(node.module, "return_indices", False):
        raise InputError(f"max-pool '{node.name}' returns indices; set return_indices=False")


def _pools_last(nodes: list[Node]) -> list[Node]:
    """Max-pools between a weighted layer and its ReLU, moved behind the ReLU and the batch norms before it."""
    nodes = list(nodes)
    for i in range(len(nodes)):
        k = i
        while k > 1 and nodes[k].kind in ("relu", "batchnorm") and nodes[k - 1].kind == "maxpool":
            start = k - 1
            while start > 0 and nodes[start].kind in ("maxpool", "batchnorm"):
                start -= 1
            if nodes[start].kind not in ("conv", "linear"):
                break
            pool = nodes[k - 1]
            if nodes[k].kind == "batchnorm" and nodes[k].module.affine:
                pool = signed_pool(pool, nodes[k].module.weight.detach())
            nodes[k - 1], nodes[k] = nodes[k], pool
            k -= 1
    return nodes


def signed_pool(node: Node, factor: Tensor) -> Node:
    """The max-pool node as it is once each of its channels has been multiplied by its factor (C,)."""
    if not bool((factor < 0).any()):
        return node
    pool, sign = node.module, torch.where(factor < 0, -1, 1)
    if isinstance(pool, SignedMaxPool2d):
        pool, sign = pool.pool, pool.sign * sign
    return Node(node.name, node.kind, node.inputs, SignedMaxPool2d(pool, sign))


def _without_repeats(nodes: list[Node]) -> list[Node]:
    """Of ReLUs with nothing but max-pools and flattening between them, the first."""
    kept, rectified = [], False
    for node in nodes:
        if node.kind != "relu" or not rectified:
            kept.append(node)
        rectified = node.kind == "relu" or (rectified and node.kind in ("maxpool", "flatten"))
    return kept


def _check_order(nodes: list[Node]) -> None:
    """Weighted layers and ReLUs take turns, and a weighted layer, perhaps with a ReLU, ends the network."""
    turns = [node for node in nodes if node.kind in ("conv", "linear", "relu")]
    if not any(node.kind != "relu" for node in turns):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    if turns[0].kind == "relu":
        raise InputError(
            f"ReLU '{turns[0].name}' stands before the first weighted layer; the exact mapping takes none there"
        )
    for first, second in pairwise(turns):
        if first.kind == second.kind == "relu" or (first.kind != "relu" and second.kind != "relu"):
            what = "two ReLUs with no weighted layer" if first.kind == "relu" else "two weighted layers with no ReLU"
            raise InputError(
                f"'{first.name}' and '{second.name}' are {what} between them; the exact mapping needs turns"
            )
    for before, node in pairwise(nodes):
        if node.kind == "relu" and before.kind not in ("conv", "linear"):
            raise InputError(
                f"'{before.name}' stands between ReLU '{node.name}' and its weighted layer and cannot be folded; move it"
            )
    if turns[-1] is not nodes[-1]:
        raise InputError(f"'{nodes[-1].name}' stands behind the last weighted layer; end the network with that layer")
