"""Each neuron's sum of weights brought between two bounds (Stanojevic et al. 2023, phase 1, step 4)."""

import torch
from torch import Tensor, nn

from respike.convert.exact.chain import linked
from respike.convert.exact.fold_forward import constant_bias
from respike.convert.graph.nodes import BiasMapConv2d, Graph, Node
from respike.errors import InputError


def bound_weight_sums(graph: Graph, input_shape: tuple[int, ...], low: float = -10.0, high: float = 0.99) -> Graph:
    """The chain with every hidden neuron's sum of weights c in [low, high], and the same function.

    Where c lies outside, the neuron's incoming weights and bias are divided by c / bound, which is above 1, and its outgoing
    weights multiplied by it: a ReLU, a max-pool and a min-pool let a positive factor through. high below 1 keeps
    1 - sum W positive, which the mapping divides by.
    """
    if not low < 0 < high < 1:
        raise InputError(
            f"convert.weight_bounds=[{low},{high}]: one below 0 and one in (0, 1), as in convert.weight_bounds=[-10,0.99]"
        )
    shapes, nodes, factor = graph.shapes(input_shape), [], None
    weighted = [node.name for node in graph.nodes.values() if node.kind in ("conv", "linear")]
    for node in graph.nodes.values():
        if node.kind == "flatten" and factor is not None:
            factor = factor.repeat_interleave(shapes[node.inputs[0]][1:].numel())
        if node.kind in ("conv", "linear"):
            weight = node.module.weight.detach()
            if factor is not None:
                weight = weight * _per_input(factor, node.module)
            sums = weight.flatten(1).sum(1)
            factor = torch.where(sums > high, sums / high, torch.where(sums < low, sums / low, 1))
            factor = torch.ones_like(sums) if node.name == weighted[-1] else factor
            weight = weight / factor.view(-1, *[1] * (weight.ndim - 1))
            node = Node(node.name, node.kind, node.inputs, _scaled(node.module, weight, factor))
        nodes.append(node)
    return linked(nodes)


def _per_input(factor: Tensor, module: nn.Module) -> Tensor:
    """Factors (C,) of the inputs in the shape of the weights they multiply: (1, F) or (C', C / groups, 1, 1)."""
    if isinstance(module, nn.Linear):
        return factor[None]
    grouped = factor.view(module.groups, 1, -1).expand(-1, module.out_channels // module.groups, -1)
    return grouped.flatten(0, 1)[..., None, None]


def _scaled(module: nn.Module, weight: Tensor, factor: Tensor) -> nn.Module:
    """The layer with these weights and its bias divided by the factor (C,)."""
    if isinstance(module, BiasMapConv2d):
        scaled = BiasMapConv2d(module, module.bias_map / factor.view(-1, 1, 1))
    elif isinstance(module, nn.Conv2d):
        scaled = constant_bias(
            module, torch.zeros_like(factor) if module.bias is None else module.bias.detach() / factor
        )
    else:
        scaled = nn.Linear(*weight.T.shape, bias=module.bias is not None, device="meta")
        if module.bias is not None:
            scaled.bias = nn.Parameter(module.bias.detach() / factor)
    scaled.weight = nn.Parameter(weight)
    return scaled
