"""Batch norms merged into the layers in front of them."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from respike.convert.graph.nodes import Graph, Node
from respike.errors import InputError


def fold_batch_norms(graph: Graph) -> Graph:
    """Batch norms directly behind a convolution or linear layer, merged into its weights and bias."""
    nodes, renamed, output = {}, {}, graph.output
    for node in graph.nodes.values():
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        source = nodes.get(inputs[0])
        foldable = source and source.kind in ("conv", "linear") and len(graph.readers(node.inputs[0])) == 1
        if node.kind == "batchnorm" and foldable:
            nodes[source.name] = Node(source.name, source.kind, source.inputs, _folded(source, node))
            renamed[node.name] = source.name
        else:
            nodes[node.name] = Node(node.name, node.kind, inputs, node.module)
    return Graph(nodes, renamed.get(output, output))


def _folded(layer: Node, norm: Node) -> nn.Module:
    if norm.module.running_var is None:
        raise InputError(
            f"batch norm '{norm.name}' keeps no running statistics; train it with track_running_stats=True"
        )
    if not norm.module.affine:
        norm.module.weight = nn.Parameter(torch.ones_like(norm.module.running_var))
        norm.module.bias = nn.Parameter(torch.zeros_like(norm.module.running_var))
    fuse = fuse_conv_bn_eval if layer.kind == "conv" else fuse_linear_bn_eval
    return fuse(layer.module, norm.module)
