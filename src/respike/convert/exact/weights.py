"""The weights of the layers that read spikes: of one layer behind operations per channel, means and sums, and of several."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respike.convert.exact.ttfs_net import bias_of
from respike.convert.exact.values import Affine, Spikes, Sum, Term
from respike.convert.graph.modules import linear_of, per_input
from respike.convert.graph.nodes import BiasMapConv2d, Node, Weighted, Windows, conv_settings


def fold_into(layer: Weighted, value: Spikes, shape: torch.Size) -> Term:
    """The synapses that compute of spikes what `layer` computes of the value (C, ...) that is made of them."""
    if value.index is not None:
        return _fold_channels(layer, value, shape)
    if value.affine is None:
        return Term(value.branches, layer)
    if isinstance(layer, nn.Conv2d):
        return Term(value.branches, _fold_into_conv(layer, value.affine, shape))
    return Term(value.branches, _fold_into_linear(layer, value.affine))


def _fold_channels(layer: Weighted, value: Spikes, shape: torch.Size) -> Term:
    """`fold_into` where channels of spikes are summed or reordered: W'_k = kappa_k W_index(k)."""
    affine, index, share = value.explicit(shape, layer.weight.device)
    weight, connected = _dense(layer)
    inputs = (1, -1, *[1] * (weight.ndim - 2))
    folded = weight[:, index] * affine.kappa.to(weight).view(inputs)
    macs = None
    if value.share is not None or connected is not None:
        ones = torch.ones_like(folded) if connected is None else connected[:, index]
        macs = ones * share.to(weight).view(inputs)
    bias = _shifted_bias(layer, affine, shape)
    like = layer if isinstance(layer, nn.Conv2d) else None
    return Term(value.branches, layer_of_weights(folded, bias, like), macs)


def _shifted_bias(layer: Weighted, affine: Affine, shape: torch.Size) -> Tensor:
    """The layer's bias with what a shift of its input adds: (N,), or (N, H, W) where that differs by place."""
    weight = layer.weight.detach()
    with torch.no_grad():
        found = layer(affine.shift_map(shape).to(weight)[None])[0]
    if isinstance(layer, nn.Linear) or _differs_by_place(layer, affine):
        return found
    return found[:, 0, 0]


def _differs_by_place(conv: nn.Conv2d, affine: Affine) -> bool:
    padded = any(conv._reversed_padding_repeated_twice) and bool(affine.shift.any())
    return padded or affine.shift.ndim > 1 or isinstance(conv, BiasMapConv2d)


def _dense(layer: Weighted) -> tuple[Tensor, Tensor | None]:
    """Weights (N, C, ...) without groups, zero where there is no connection, and where there is one, None for everywhere."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return weight, None
    groups, inputs = layer.groups, weight.shape[1]
    whole = weight.new_zeros(groups, len(weight) // groups, groups, *weight.shape[1:])
    for group, part in enumerate(weight.view(groups, -1, *weight.shape[1:])):
        whole[group, :, group] = part
    connected = torch.zeros_like(whole)
    for group in range(groups):
        connected[group, :, group] = 1
    size = len(weight), groups * inputs, *weight.shape[2:]
    return whole.reshape(size), connected.reshape(size)


def layer_of_weights(weight: Tensor, bias: Tensor | None, like: nn.Conv2d | None = None) -> Weighted:
    """A linear layer, or a convolution (without groups) with the windows of another.

    bias: (N,), (N, 1, 1), or (N, H, W) of one per place.
    """
    if like is None:
        linear = linear_of(weight, bias)
        assert isinstance(linear, nn.Linear)
        return linear
    inputs = {"in_channels": weight.shape[1], "groups": 1} if weight.shape[1] != like.weight.shape[1] else {}
    changed = {"out_channels": len(weight), "kernel_size": tuple(weight.shape[2:])} | inputs
    conv = nn.Conv2d(**conv_settings(like) | changed, bias=False, device="meta")
    conv.weight = nn.Parameter(weight)
    if bias is not None and bias.ndim > 1 and bias[0].numel() > 1:
        return BiasMapConv2d(conv, bias)
    if bias is not None:
        conv.bias = nn.Parameter(bias.flatten())
    return conv


def scale_terms(terms: tuple[Term, ...], affine: Affine) -> tuple[Term, ...]:
    """The terms of kappa y + shift, for those of y."""
    found = []
    for i, term in enumerate(terms):
        module, weight = term.module, term.module.weight.detach()
        per_neuron = [-1, *[1] * (weight.ndim - 1)]
        bias = bias_of(module) * affine.kappa.to(weight).view(per_neuron[:-1])
        bias = bias + affine.shift.to(weight).view(per_neuron[:-1]) if i == 0 else bias
        like = module if isinstance(module, nn.Conv2d) else None
        found.append(
            replace(term, module=layer_of_weights(weight * affine.kappa.to(weight).view(per_neuron), bias, like))
        )
    return tuple(found)


def merge_terms(value: Sum, shape: torch.Size) -> Term:
    """One layer that computes the sum of all terms, in maps or features of this shape.

    The kernels of a convolution with stride 1 that keeps the size of its maps can also hold convolutions of 1x1, in their
    middle. Any other convolution becomes one of 1x1 on its windows.
    """
    if len(value.terms) == 1:
        return value.terms[0]
    branches = tuple(branch for term in value.terms for branch in term.branches)
    biases = [bias_of(term.module) for term in value.terms]
    bias = sum(biases[1:], biases[0])
    if len(shape) == 1:
        weights = [term.module.weight.detach() for term in value.terms]
        macs = [torch.ones_like(term.module.weight) if term.macs is None else term.macs for term in value.terms]
        whole = None if all(term.macs is None for term in value.terms) else torch.cat(macs, 1).detach()
        return Term(branches, layer_of_weights(torch.cat(weights, 1), bias), whole)
    convs = [term.module for term in value.terms if isinstance(term.module, nn.Conv2d)]
    kept = max((conv for conv in convs if _keeps_size(conv)), key=lambda conv: conv.weight[0, 0].numel(), default=None)
    like = kept if kept is not None else nn.Conv2d(1, 1, 1, device="meta")
    geometry = like.kernel_size, like.dilation
    branches, parts, macs = (), [], []
    for i, term in enumerate(value.terms):
        conv = term.module
        assert isinstance(conv, nn.Conv2d)
        weight, connected = _dense(conv)
        connected = term.macs if term.macs is not None else connected
        connected = torch.ones_like(weight) if connected is None else connected
        if not (_keeps_size(conv) and (conv.kernel_size, conv.dilation) == geometry):
            if not (_keeps_size(conv) and conv.kernel_size == (1, 1)):
                windows = Windows(conv.kernel_size, conv.stride, conv._reversed_padding_repeated_twice, conv.dilation)
                step = Node(f"{value.name}_windows{i + 1}", "windows", (), windows)
                term = replace(
                    term, branches=tuple(branch.then(step, branch.channels * windows.area) for branch in term.branches)
                )
                weight, connected = (tensor.flatten(1)[..., None, None] for tensor in (weight, connected))
            rows, columns = ((side - 1) // 2 for side in like.kernel_size)
            around = columns, columns, rows, rows
            weight, connected = F.pad(weight, around), F.pad(connected, around)
        branches += term.branches
        parts.append(weight)
        macs.append(connected)
    return Term(branches, layer_of_weights(torch.cat(parts, 1), bias, _ungrouped(like)), torch.cat(macs, 1))


def _keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution has stride 1 and padding by half its window: each place of its maps is the middle of a window."""
    sides = zip(conv.kernel_size, conv.dilation, strict=True)
    rows, columns = (dilation * (kernel - 1) / 2 if kernel % 2 else -1.0 for kernel, dilation in sides)
    padding = tuple(conv._reversed_padding_repeated_twice)
    return tuple(conv.stride) == (1, 1) and padding == (columns, columns, rows, rows)


def _ungrouped(conv: nn.Conv2d) -> nn.Conv2d:
    return nn.Conv2d(**conv_settings(conv) | {"in_channels": 1, "out_channels": 1, "groups": 1}, device="meta")


def _fold_into_linear(linear: nn.Linear, affine: Affine) -> nn.Linear:
    """W' = W diag(kappa), b' = b + W shift."""
    weight = linear.weight.detach()
    moved = weight @ affine.shift.to(weight)
    folded = nn.Linear(linear.in_features, linear.out_features, device="meta")
    folded.weight = nn.Parameter(weight * affine.kappa.to(weight))
    folded.bias = nn.Parameter(moved if linear.bias is None else linear.bias.detach() + moved)
    return folded


def _fold_into_conv(conv: nn.Conv2d, affine: Affine, shape: torch.Size) -> nn.Conv2d:
    """W' = W diag(kappa); b' at each place is the convolution of the map of shifts, padded with zeros."""
    weight = conv.weight.detach()
    with torch.no_grad():
        bias_map = conv(affine.shift_map(shape).to(weight)[None])[0]  # includes the bias of the convolution
    folded = BiasMapConv2d(conv, bias_map)
    folded.weight.data *= per_input(affine.kappa.to(weight), conv)
    return folded if _differs_by_place(conv, affine) else conv_with_bias(folded, bias_map[:, 0, 0])


def conv_with_bias(conv: nn.Conv2d, bias: Tensor) -> nn.Conv2d:
    """A plain convolution with the same weights and settings, and a bias (C,)."""
    plain = nn.Conv2d(**conv_settings(conv), device="meta")
    plain.weight, plain.bias = nn.Parameter(conv.weight.detach().clone()), nn.Parameter(bias.clone())
    return plain
