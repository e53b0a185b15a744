"""Folds batch norms into the weighted layers in front of them."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from respike.convert.graph.nodes import Graph, Node
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


def _fold(layer: Node, norm: Node) -> nn.Module:
    if norm.module.running_var is None:
        raise InputError(
            f"batch norm '{norm.name}' keeps no running statistics; train it with track_running_stats=True"
        )
    if not norm.module.affine:
        norm.module.weight = nn.Parameter(torch.ones_like(norm.module.running_var))
        norm.module.bias = nn.Parameter(torch.zeros_like(norm.module.running_var))
    fuse = fuse_conv_bn_eval if layer.kind == "conv" else fuse_linear_bn_eval
    return fuse(layer.module, norm.module)
