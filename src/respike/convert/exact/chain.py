"""Reads a ReLU network as a chain: weighted layers that alternate with ReLUs, the form that the exact mapping takes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import CappedReLU, Graph, Node, SignedMaxPool2d
from respike.errors import InputError
from respike.networks.qcfs import QCFS

MAPPED = "Linear, Conv2d, ReLU, MaxPool2d, BatchNorm, Flatten, Dropout and constant factors, one after the other"


def read_chain(graph: Graph, input_shape: Sequence[int]) -> Graph:
    """The graph as a chain: each node reads the one before, and every ReLU directly follows its weighted layer.

    Dropped are softmax and flattening at the end, adaptive pools that keep every pixel, and repeated ReLUs. A max-pool between
    a weighted layer and its ReLU moves behind the ReLU. Batch norms between them are folded into the weighted layer.
    input_shape: (C, H, W). Raises InputError for branches and for operations without an exact form in spike times.
    """
    nodes, previous = [], "input"
    for node in graph.nodes.values():
        if node.inputs != (previous,):
            raise InputError(
                f"branches meet at '{node.name}': their spikes lie in different intervals; the exact mapping delays no "
                "spikes of the shorter branch; it takes chains of layers (method=rate takes branches)"
            )
        nodes.append(node)
        previous = node.name
    while nodes and nodes[-1].kind in ("softmax", "flatten"):
        nodes.pop()
    shapes = graph.shapes(input_shape)
    nodes = [node for node in nodes if not _is_identity_pool(node, shapes)]
    for node in nodes:
        _refuse_unmapped(node)
    graph = fold_batch_norms(connect_in_order(_drop_repeated_relus(_move_pools_behind_relus(nodes))))
    _check_order(list(graph.nodes.values()))
    return graph


def connect_in_order(nodes: list[Node]) -> Graph:
    """The graph in which each node reads the one before it in the list."""
    connected, source = {}, "input"
    for node in nodes:
        connected[node.name] = Node(node.name, node.kind, (source,), node.module)
        source = node.name
    return Graph(connected, source)


def _is_identity_pool(node: Node, shapes: dict[str, torch.Size]) -> bool:
    """An adaptive pool that keeps every pixel, as torchvision's VGG has on images of 224 pixels."""
    return isinstance(node.module, nn.AdaptiveAvgPool2d) and shapes[node.name] == shapes[node.inputs[0]]


def _refuse_unmapped(node: Node) -> None:
    if isinstance(node.module, QCFS):
        raise InputError(
            f"layer '{node.name}' has quantized activations, which single spike times cannot represent; type method=rate "
            "convert=qcfs"
        )
    if node.kind in ("avgpool", "add", "softmax"):
        reason = ": a mean of spikes is no spike, and it is not merged with the weights behind it"
        raise InputError(
            f"layer '{node.name}' ({type(node.module).__name__}) has no exact form in spike times"
            f"{reason if node.kind == 'avgpool' else ''}; mapped are {MAPPED}"
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
            if nodes[start].kind not in ("conv", "linear"):
                break
            pool = nodes[k - 1]
            if nodes[k].kind == "batchnorm" and nodes[k].module.affine:
                pool = pool_scaled_maps(pool, nodes[k].module.weight.detach())
            nodes[k - 1], nodes[k] = nodes[k], pool
            k -= 1
    return nodes


def pool_scaled_maps(node: Node, factor: Tensor) -> Node:
    """The max-pool that gives the pooled maps times `factor` (C,) if it reads the maps times `factor`.

    A negative factor turns the maximum of its channel into a minimum.
    """
    if not bool((factor < 0).any()):
        return node
    pool, sign = node.module, torch.where(factor < 0, -1, 1)
    if isinstance(pool, SignedMaxPool2d):
        pool, sign = pool.pool, pool.sign * sign
    return Node(node.name, node.kind, node.inputs, SignedMaxPool2d(pool, sign))


def _drop_repeated_relus(nodes: list[Node]) -> list[Node]:
    """Drop a ReLU whose input is rectified already: only max-pools and flattening lie between it and a ReLU before it."""
    kept, rectified = [], False
    for node in nodes:
        if node.kind != "relu" or not rectified or isinstance(node.module, CappedReLU):
            kept.append(node)
        rectified = node.kind == "relu" or (rectified and node.kind in ("maxpool", "flatten"))
    return kept


def _check_order(nodes: list[Node]) -> None:
    """Weighted layers and ReLUs must alternate, and the network must end with a weighted layer or with its ReLU."""
    alternating = [node for node in nodes if node.kind in ("conv", "linear", "relu")]
    if not any(node.kind != "relu" for node in alternating):
        raise InputError("the network has no Linear or Conv2d layer: there is nothing to convert")
    if alternating[0].kind == "relu":
        raise InputError(
            f"ReLU '{alternating[0].name}' stands before the first weighted layer; the exact mapping takes none there"
        )
    for first, second in pairwise(alternating):
        if (first.kind == "relu") == (second.kind == "relu"):
            what = "two ReLUs with no weighted layer" if first.kind == "relu" else "two weighted layers with no ReLU"
            raise InputError(
                f"'{first.name}' and '{second.name}' are {what} between them; in the exact mapping they must alternate"
            )
    for before, node in pairwise(nodes):
        if node.kind == "relu" and before.kind not in ("conv", "linear"):
            raise InputError(
                f"'{before.name}' stands between ReLU '{node.name}' and its weighted layer and cannot be folded; move it"
            )
    if alternating[-1] is not nodes[-1]:
        raise InputError(f"'{nodes[-1].name}' stands behind the last weighted layer; end the network with that layer")
