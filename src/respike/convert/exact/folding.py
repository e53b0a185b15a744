"""Folds all that is linear between two ReLUs into one weighted layer that reads spikes (phase 1, steps 2 and 3, and branches).

A batch norm or constant behind a ReLU, an average pool, a concatenation and a sum become weights: a mean or a sum of spikes is
no spike, but the synapses behind it can read every spike of it, with its share of the weight.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from respike.convert.exact.values import Affine, Branch, Spikes, Sum, Term
from respike.convert.exact.weights import fold_into, layer_of_weights, merge_terms, scale_terms
from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Concat, Graph, Node, Pad, Slice, Windows, affine_of, max_pool_of_multiples
from respike.errors import InputError

ALL = (None, None, None)  # a slice that takes everything


def fold_forward(graph: Graph, input_shape: Sequence[int], input_range: Sequence[float] = (0.0, 1.0)) -> Graph:
    """The graph in which weighted layers read spikes: of ReLUs or of the input, selected and concatenated, nothing else.

    It takes images (x - p) / (q - p) in [0, 1] in place of x in [p, q] = input_range: the operation x -> (q - p) x + p, and all
    else behind a ReLU or the input, is folded into the next weighted layers; the terms of a sum in front of a ReLU become one
    layer. Max-pools may lie between: a negative kappa turns a channel's max-pool into a min-pool. Zero padding has no shift, so
    a padded convolution gets one bias per place. Raises InputError for what has no exact form in spike times.
    """
    p, q = input_range
    if not p < q:
        raise InputError(
            f"convert.input_range=[{p},{q}]: two rising numbers are needed, as in convert.input_range=[0,1]"
        )
    return _Folding(graph, input_shape).run(p, q)


class _Folding:
    def __init__(self, graph: Graph, input_shape: Sequence[int]):
        self.graph, self.shapes = graph, graph.shapes(input_shape)
        self.nodes: dict[str, Node] = {}
        self.steps: dict[tuple[str, int], str] = {}  # (source, id of a module) -> the node that has been made
        self.joined: dict[tuple[str, ...], str] = {}

    def run(self, p: float, q: float) -> Graph:
        ones = torch.ones(self.shapes["input"][0], dtype=self.graph.dtype, device=self.graph.device)
        values: dict[str, Spikes | Sum] = {"input": self.source("input", Affine((q - p) * ones, p * ones))}
        for node in self.graph.nodes.values():
            values[node.name] = self.value(node, [values[name] for name in node.inputs])
        return Graph(self.nodes, self.output(values[self.graph.output]))

    def source(self, name: str, affine: Affine | None = None) -> Spikes:
        return Spikes(name, (Branch(name, (), self.shapes[name][0]),), affine)

    def value(self, node: Node, read: list[Spikes | Sum]) -> Spikes | Sum:
        """The value of a node that reads these values."""
        if node.kind == "relu":
            return self.relu(node, read[0])
        if node.kind == "add":
            return self.add(node, read)
        (one, *_), shape = read, self.shapes[node.inputs[0]]
        affine = _per_channel(node, shape, self.graph.device)
        spikes = [value for value in read if isinstance(value, Spikes)]
        if len(spikes) < len(read) and node.kind == "cat":
            raise InputError(
                f"'{node.name}' concatenates a value in front of its ReLU; put a ReLU in each branch first"
            )
        if isinstance(one, Sum):
            if node.kind in ("conv", "linear"):
                raise _refuse_reader(one, node)
            if affine is not None and one.behind is None:
                return replace(one, terms=scale_terms(one.terms, affine))
            return replace(one, behind=one.behind or node.name)
        if node.kind in ("conv", "linear"):
            return Sum(node.name, node.name, (fold_into(node.weighted, one, shape),))
        if affine is not None:
            return one.followed_by(affine, node.name)
        if node.kind == "cat":
            return replace(self.concat(spikes), name=node.name)
        operations = {
            "maxpool": self.max_pool,
            "avgpool": self.mean,
            "flatten": self.flatten,
            "pad": self.pad,
            "slice": self.slice,
        }
        return replace(operations[node.kind](node, one, shape), name=node.name)

    def relu(self, node: Node, value: Spikes | Sum) -> Spikes:
        """The spikes of a layer of neurons, which is made here."""
        if isinstance(value, Spikes):
            if not value.is_sum:
                raise _refuse_relu(node, value)
            value = self.sum_of(value, value.name)
        if value.behind is not None:
            raise InputError(
                f"'{value.behind}' stands between ReLU '{node.name}' and its weighted layer and cannot be folded; move it"
            )
        self.nodes[node.name] = Node(node.name, "relu", (self.emit(value, self.shapes[node.name]),), node.module)
        return self.source(node.name)

    def output(self, value: Spikes | Sum) -> str:
        """The name of the network's last node; a sum or mean of spikes at the end becomes a layer of its own."""
        name = value.behind if isinstance(value, Sum) else value.name
        if isinstance(value, Spikes):
            if value.name in self.nodes and self.nodes[value.name].kind == "relu":
                return value.name
            if value.is_sum:
                value, name = self.sum_of(value, value.name), None
        if not isinstance(value, Sum) or name is not None:
            raise InputError(f"'{name}' stands behind the last weighted layer; end the network with that layer")
        return self.emit(value, self.shapes[self.graph.output])

    def add(self, node: Node, read: list[Spikes | Sum]) -> Spikes | Sum:
        shapes = [tuple(self.shapes[name]) for name in node.inputs]
        if len(set(shapes)) > 1:
            raise InputError(
                f"'{node.name}' adds values of the shapes {shapes}; the exact mapping adds values of one shape"
            )
        spikes = [value for value in read if isinstance(value, Spikes)]
        if len(spikes) == len(read):
            return replace(self.joint(spikes, self.shapes[node.name], [0] * len(read)), name=node.name)
        sums = [
            self.sum_of(value, name) if isinstance(value, Spikes) else value
            for value, name in zip(read, node.inputs, strict=True)
        ]
        behind = next((one.behind for one in sums if one.behind), None)
        name = next(value.name for value in read if isinstance(value, Sum))
        return Sum(name, node.name, tuple(term for one in sums for term in one.terms), behind)

    def joint(self, values: list[Spikes], shape: torch.Size, starts: list[int]) -> Spikes:
        """Spikes of several values, of which each begins at a channel of the result: the sum, or the concatenation."""
        affines = [value.explicit(self.shapes[value.name], self.graph.device) for value in values]
        index = torch.cat([index + start for (_, index, _), start in zip(affines, starts, strict=True)])
        adds = len(set(starts)) < len(starts)
        share = torch.cat([share / len(values) if adds else share for *_, share in affines])
        kappa = torch.cat([affine.kappa for affine, *_ in affines])
        shifts = [affine.shift for affine, *_ in affines]
        if any(shift.ndim > 1 for shift in shifts):
            shifts = [
                affine.shift_map(self.shapes[value.name]) for (affine, *_), value in zip(affines, values, strict=True)
            ]
        shift = sum(shifts[1:], shifts[0]) if adds else torch.cat(shifts)
        plain = all(value.affine is None for value in values)
        ordered = not adds and torch.equal(index, torch.arange(len(index), device=index.device))
        return Spikes(
            values[0].name,
            tuple(branch for value in values for branch in value.branches),
            None if plain else Affine(kappa, shift),
            None if ordered else index,
            None if all(value.share is None for value in values) and not adds else share,
        )

    def concat(self, values: list[Spikes]) -> Spikes:
        widths = [self.shapes[value.name][0] for value in values]
        return self.joint(values, torch.Size(), [sum(widths[:i]) for i in range(len(widths))])

    def sum_of(self, value: Spikes, name: str) -> Sum:
        """The same value as synapses of weight kappa, one for each channel of spikes."""
        shape = self.shapes[value.name]
        affine, index, share = value.explicit(shape, self.graph.device)
        weight = torch.zeros(shape[0], value.channels, dtype=self.graph.dtype, device=index.device)
        macs, k = weight.clone(), torch.arange(value.channels, device=index.device)
        weight[index, k], macs[index, k] = affine.kappa.to(weight), share.to(weight)
        bias = affine.shift.to(weight) if value.affine is not None else None
        if len(shape) == 1:
            return Sum(name, name, (Term(value.branches, layer_of_weights(weight, bias), macs),))
        like = nn.Conv2d(1, 1, 1, device="meta")
        weight, macs = weight[..., None, None], macs[..., None, None]
        return Sum(name, name, (Term(value.branches, layer_of_weights(weight, bias, like), macs),))

    def max_pool(self, node: Node, value: Spikes, shape: torch.Size) -> Spikes:
        if value.is_sum or value.share is not None:
            raise InputError(
                f"max-pool '{node.name}' reads sums or means ('{value.name}'): the largest of several sums of spikes is no "
                "spike; put a ReLU in between"
            )
        if value.affine is not None and value.affine.shift.ndim > 1:
            raise InputError(
                f"max-pool '{node.name}' reads zero padding behind a shift ('{value.name}'), and the shift of a map must be "
                "the same everywhere; pad in the convolutions, or in the max-pool"
            )
        branches, start = [], 0
        for branch in value.branches:
            kappa = None if value.affine is None else value.affine.kappa[start : start + branch.channels]
            step = node if kappa is None else replace(node, module=max_pool_of_multiples(node.module, kappa))
            branches.append(branch.then(step, branch.channels))
            start += branch.channels
        return replace(value, branches=tuple(branches))

    def mean(self, node: Node, value: Spikes, shape: torch.Size) -> Spikes:
        """An average pool: each spike of a window is read with its share of the weight behind the pool."""
        windows, divisor = _windows_of(node, shape, self.shapes[node.name])
        if windows.area == 1 and windows.stride == (1, 1) and divisor == 1 and not any(windows.padding):
            return value
        affine, index, share = value.explicit(shape, self.graph.device)
        area, step = windows.area, Node(node.name, "windows", (), windows)
        shift = affine.shift
        if shift.ndim > 1 or any(windows.padding) or area != divisor:
            shift = windows(affine.shift_map(shape)[None])[0].unflatten(0, (-1, area)).sum(1) / divisor
        return Spikes(
            node.name,
            tuple(branch.then(step, branch.channels * area) for branch in value.branches),
            Affine(affine.kappa.repeat_interleave(area) / divisor, shift),
            index.repeat_interleave(area),
            share.repeat_interleave(area) / area,
        )

    def flatten(self, node: Node, value: Spikes, shape: torch.Size) -> Spikes:
        places, affine, index = shape[1:].numel(), value.affine, value.index
        if affine is not None:
            shift = affine.shift
            flat = shift.repeat_interleave(places) if shift.ndim == 1 else shift.flatten()
            affine = Affine(affine.kappa.repeat_interleave(places), flat)
        if index is not None:
            index = (index[:, None] * places + torch.arange(places, device=index.device)).flatten()
        share = None if value.share is None else value.share.repeat_interleave(places)
        branches = tuple(branch.then(node, branch.channels * places) for branch in value.branches)
        return Spikes(node.name, branches, affine, index, share)

    def pad(self, node: Node, value: Spikes, shape: torch.Size) -> Spikes:
        padding = [*node.module.padding, *[0] * (2 * len(shape) - len(node.module.padding))]
        *places, before, after = padding
        affine, index, branches = value.affine, value.index, value.branches
        if before < 0 or after < 0:
            raise InputError(f"'{node.name}' crops channels by negative padding; take them by a slice, as in x[:, :8]")
        if any(places):
            step = Node(node.name, "pad", (), Pad(places))
            branches = tuple(branch.then(step, branch.channels) for branch in branches)
        if affine is not None:
            affine = Affine(affine.kappa, node.module(affine.shift_map(shape)[None])[0])
        if before or after:
            index = value.explicit(shape, self.graph.device)[1] + before
        return Spikes(node.name, branches, affine, index, value.share)

    def slice(self, node: Node, value: Spikes, shape: torch.Size) -> Spikes:
        slices = [*node.module.slices, *[ALL] * (len(shape) - len(node.module.slices))]
        kept = torch.arange(shape[0])[slice(*slices[0])]
        if len(kept) < shape[0] and (value.index is not None or len(value.branches) > 1):
            raise InputError(
                f"'{node.name}' takes channels of sums, means or concatenations ('{value.name}'); the exact mapping takes "
                "slices of a single layer's channels"
            )
        affine = value.affine
        if affine is not None:
            kappa = affine.kappa if len(kept) == shape[0] else affine.kappa[kept.to(affine.kappa.device)]
            affine = Affine(kappa, node.module(affine.shift_map(shape)[None])[0])
        whole = len(kept) == shape[0]
        step = Node(node.name, "slice", (), Slice([ALL if whole else slices[0], *slices[1:]]))
        branches = tuple(branch.then(step, branch.channels if whole else len(kept)) for branch in value.branches)
        return Spikes(node.name, branches, affine, value.index, value.share)

    def emit(self, value: Sum, shape: torch.Size) -> str:
        """Adds the layer of a sum, and what its synapses read; returns its name."""
        term = merge_terms(value, shape)
        ends = tuple(self.end(branch) for branch in term.branches)
        source = ends[0]
        if len(ends) > 1:
            if ends not in self.joined:
                self.joined[ends] = self.unique(f"{value.name}_inputs")
                self.nodes[self.joined[ends]] = Node(self.joined[ends], "cat", ends, Concat())
            source = self.joined[ends]
        name = self.unique(value.name)
        kind, module = ("linear" if isinstance(term.module, nn.Linear) else "conv"), term.module
        if term.macs is not None:
            module.register_buffer("macs", term.macs)
        self.nodes[name] = Node(name, kind, (source,), module)
        return name

    def end(self, branch: Branch) -> str:
        """The name of the last node of a branch, whose nodes are made where they are not there."""
        source = branch.source
        for step in branch.steps:
            key = source, id(step.module)
            if key not in self.steps:
                self.steps[key] = name = self.unique(step.name)
                self.nodes[name] = Node(name, step.kind, (source,), step.module)
            source = self.steps[key]
        return source

    def unique(self, name: str) -> str:
        """The name, with a number where it is taken, also by a ReLU that follows: ReLUs keep their names."""
        free, number = name, 1
        while free in self.nodes or (free in self.graph.nodes and self.graph.nodes[free].kind == "relu"):
            number += 1
            free = f"{name}_{number}"
        return free


def _refuse_reader(value: Sum, node: Node) -> InputError:
    if value.node != value.name:
        return InputError(
            f"'{node.name}' reads the sum '{value.node}', which has no ReLU behind it: a sum may be negative, and a spike "
            "stands for a value of 0 or more; train with a ReLU after the addition"
        )
    return InputError(
        f"'{value.name}' and '{node.name}' are two weighted layers with no ReLU between them; in the exact mapping they must "
        "alternate"
    )


def _refuse_relu(node: Node, value: Spikes) -> InputError:
    source = value.branches[0].source
    if source == "input":
        return InputError(
            f"ReLU '{node.name}' stands before the first weighted layer; the exact mapping takes none there"
        )
    return InputError(
        f"'{source}' and '{node.name}' are two ReLUs with no weighted layer between them; in the exact mapping they must "
        "alternate"
    )


def _per_channel(node: Node, shape: torch.Size, device: torch.device) -> Affine | None:
    """The operation of a batch norm, a constant or a factor on a value of shape (C, ...), None for any other node."""
    found = affine_of(node)
    if found is None:
        return None
    return Affine(*(values.detach().to(device).expand(shape[0]) for values in (found.factor, found.shift)))


def _windows_of(node: Node, shape: torch.Size, ends: torch.Size) -> tuple[Windows, int]:
    """The windows of an average pool from maps of `shape` to `ends`, and the number by which their sums are divided."""
    pool, sides = node.module, shape[-2:]
    refused = InputError(
        f"average pool '{node.name}' ({type(pool).__name__}) has windows of unequal size; the exact mapping takes windows of "
        "one size, as of nn.AvgPool2d(2) or nn.AdaptiveAvgPool2d(1)"
    )
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        if any(side % end for side, end in zip(sides, ends[-2:], strict=True)):
            raise refused
        kernel = sides[0] // ends[-2], sides[1] // ends[-1]
        return Windows(kernel, kernel), kernel[0] * kernel[1]
    assert isinstance(pool, nn.AvgPool2d)
    kernel, stride = pair(pool.kernel_size), pair(pool.stride)
    (rows, columns), padded = pair(pool.padding), pair(pool.padding) != (0, 0)
    windows = Windows(kernel, stride, (columns, columns, rows, rows))
    exact = windows(torch.zeros(1, 1, *sides)).shape[-2:] == ends[-2:]  # ceil_mode may add windows that are cut off
    if not exact or (padded and not pool.count_include_pad and not pool.divisor_override):
        raise refused
    return windows, pool.divisor_override or windows.area
