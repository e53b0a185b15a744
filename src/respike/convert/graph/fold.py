"""Folds batch norms into the weighted layers in front of them."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from respike.convert.graph.nodes import Graph, Node, Weighted
from respike.errors import InputError


def fold_batch_norms(graph: Graph) -> Graph:
    """The graph with every batch norm directly behind a convolution or linear layer folded into its weights and bias.

    A layer that another node reads as well keeps its batch norm. Raises InputError for a batch norm without running statistics.
    """
    nodes: dict[str, Node] = {}
    folded_into: dict[str, str] = {}  # batch norm -> the layer that now computes its value
    for node in graph.nodes.values():
        inputs = tuple(folded_into.get(name, name) for name in node.inputs)
        layer = nodes.get(inputs[0])
        if (
            node.kind == "batchnorm"
            and layer is not None
            and layer.kind in ("conv", "linear")
            and len(graph.readers(node.inputs[0])) == 1
        ):
            nodes[layer.name] = Node(layer.name, layer.kind, layer.inputs, _fold(layer, node))
            folded_into[node.name] = layer.name
        else:
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
    return Graph(nodes, folded_into.get(graph.output, graph.output))


def _fold(layer: Node, norm: Node) -> Weighted:
    weighted, batch_norm = layer.weighted, norm.module
    assert isinstance(batch_norm, nn.BatchNorm1d | nn.BatchNorm2d)
    if batch_norm.running_var is None:
        raise InputError(
            f"batch norm '{norm.name}' keeps no running statistics; train it with track_running_stats=True"
        )
    if not batch_norm.affine:
        batch_norm.weight = nn.Parameter(torch.ones_like(batch_norm.running_var))
        batch_norm.bias = nn.Parameter(torch.zeros_like(batch_norm.running_var))
    if isinstance(weighted, nn.Conv2d):
        return fuse_conv_bn_eval(weighted, batch_norm)
    return fuse_linear_bn_eval(weighted, batch_norm)
