"""Reads a ReLU network as a graph with torch.fx, from modules and functional calls alike.

Every module of the graph is one of torch's own, with the weights that the network computes at test: pruning and
parametrizations are resolved. What a subclass or a hook computes otherwise is not in the graph; check.py compares.
"""

import inspect
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.functions import (
    ARITHMETIC,
    CASTS,
    CONCATS,
    FUNCTIONS,
    OPERATIONS,
    REDUCTIONS,
    RESHAPES,
    clamp_module,
    unknown_size,
)
from respike.convert.graph.modules import pair
from respike.convert.graph.nodes import Add, Affine, BiasMapConv2d, CappedReLU, Concat, Graph, Node, Pad, Scale, Slice
from respike.errors import InputError
from respike.networks.copying import eval_copy
from respike.networks.mlp import MaskDropout, UnmaskedReLU
from respike.networks.qcfs import QCFS
from respike.networks.spike_times import SpikeTimes

CONVERTIBLE = (
    "Linear, Conv2d, ReLU, ReLU6, max- and average pools, BatchNorm, Flatten, Dropout, additions, concatenations of channels, "
    "slices, zero padding, and constant factors and shifts per channel"
)

# Kind of node -> the types of its modules.
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "relu": (UnmaskedReLU, nn.ReLU, nn.Hardtanh, CappedReLU, QCFS),
    "linear": (nn.Linear,),
    "conv": (nn.Conv2d,),
    "avgpool": (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    "maxpool": (nn.MaxPool2d, nn.AdaptiveMaxPool2d),
    "batchnorm": (nn.BatchNorm1d, nn.BatchNorm2d),
    "flatten": (nn.Flatten,),
    "pad": (nn.ZeroPad2d,),
    "dropout_scale": (MaskDropout,),
    "identity": (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
    "softmax": (nn.Softmax, nn.LogSoftmax),
}
LEAVES = tuple(module_type for module_types in KINDS.values() for module_type in module_types)
COMPUTE_WEIGHTS = (BasePruningMethod, SpectralNorm, WeightNorm)  # hooks that set a weight before every forward
BY_NAME = {"Normalize": "affine", "StochasticDepth": "identity"}  # classes of torchvision, which need not be imported

SLICES = "take channels by slices, as in x[:, :8]"
SHUFFLES = "flattening is; channel shuffles and other changes of order are not"
GATES = "gates such as squeeze-excitation multiply two activations, which spikes cannot; leave them out and train again"
# What a person can use instead of an operation without a rate-coded form, by words in its name.
INSTEAD = {
    "sigmoid": GATES,
    "relu": "train with ReLU or ReLU6",
    "gelu": "train with ReLU",
    "elu": "train with ReLU",
    "silu": "train with ReLU",
    "swish": "train with ReLU",
    "mish": "train with ReLU",
    "tanh": "train with ReLU",
    "layernorm": "train with BatchNorm2d",
    "layer_norm": "train with BatchNorm2d",
    "groupnorm": "train with BatchNorm2d",
    "instancenorm": "train with BatchNorm2d",
    "attention": "use a convolutional network",
    "matmul": "use a convolutional network",
    "mul": GATES,
    "split": SLICES,
    "chunk": SLICES,
    "view": SHUFFLES,
    "reshape": SHUFFLES,
}
MAPS = torch.Size((0, 0, 0, 0))  # values of unknown size are taken for maps (B, C, H, W)
SPLITS = (torch.split, torch.chunk, "split", "chunk")


def _by_name(module: nn.Module) -> str | None:
    """The kind of a module of torchvision that is known by its name; a class of the same name elsewhere is traced."""
    return BY_NAME.get(type(module).__name__) if type(module).__module__.startswith("torchvision.") else None


class NetworkTracer(fx.Tracer):
    """Does not trace into the modules of KINDS, which may be subclasses defined outside torch."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return (
            isinstance(module, LEAVES) or _by_name(module) is not None or super().is_leaf_module(module, qualified_name)
        )


class _Sizes(fx.Interpreter):
    """Runs a traced network and keeps the shape of every tensor, a torch.Size, and the value of everything else."""

    def __init__(self, traced: fx.GraphModule):
        super().__init__(traced)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        value_of_size = tuple(value) if isinstance(value, torch.Size) else value
        self.values[n] = value.shape if isinstance(value, Tensor) else value_of_size
        return value


class _Reader:
    """Collects the nodes of a traced network: visits from the output back to the input, adds inputs first, and names nodes.

    sizes: the shape of every tensor, with two images, and the value of everything else; empty without images.
    """

    def __init__(self, traced: fx.Graph, root: nn.Module, sizes: Mapping[fx.Node, Any]):
        self.root, self.sizes = root, sizes
        self.modules = dict(root.named_modules())
        self.nodes: dict[str, Node] = {}
        self.names: dict[fx.Node, str] = {}
        self.count: Counter[str] = Counter()
        self.images = next(node for node in traced.nodes if node.op == "placeholder")
        self.moving = {self.images}  # what depends on the images
        for node in traced.nodes:
            named = {name: value for name, value in node.kwargs.items() if name in ("input", "tensors")}
            if not node.args and len(named) == 1:  # called as in relu(input=x)
                node.args = tuple(named.values())
                node.kwargs = {name: value for name, value in node.kwargs.items() if name not in named}
            read = node.all_input_nodes[:1] if node.target in CASTS else node.all_input_nodes
            if self.moving.intersection(read):
                self.moving.add(node)

    def visit(self, node: fx.Node) -> str:
        """Add a traced node and all nodes it depends on; returns its name."""
        if node in self.names:
            return self.names[node]
        if node is self.images:
            return "input"
        if node.op == "call_module":
            return self.visit_module(node)
        parts = node.args[0] if node.target is operator.getitem else None
        if isinstance(parts, fx.Node) and parts.target in SPLITS:
            raise self.refusal(parts, f"operation '{parts}' in the network's forward")
        target, operation = node.target, OPERATIONS.get(node.target)
        if target in CONCATS or operation == "add":
            branches = node.args[0] if target in CONCATS else node.args
            if not isinstance(branches, list | tuple):
                whole = branches
                while isinstance(whole, fx.Node) and whole.target is operator.getitem:
                    whole = whole.args[0]
                assert isinstance(whole, fx.Node)
                raise self.refusal(whole, f"a concatenation of the parts of '{whole}', '{node}',")
            if all(self.is_value(branch) for branch in branches):
                return self.visit_branches(node, list(branches), target in CONCATS)
        exact = node.kwargs.get("rounding_mode") is None and not set(node.kwargs) - {"rounding_mode"}
        if operation and len(node.args) == 2 and exact:
            return self.visit_arithmetic(node, operation)
        sources = [arg for arg in node.args if self.is_value(arg)]
        source = sources[0] if len(sources) == 1 else None
        if isinstance(source, fx.Node) and source is node.args[0]:
            found = self.visit_function(node, source)
            if found:
                return found
        raise self.refusal(node, f"operation '{node}' in the network's forward")

    def is_value(self, argument: Any) -> bool:
        """Whether an argument is an activation: a tensor that depends on the images."""
        if not isinstance(argument, fx.Node) or argument not in self.moving:
            return False
        size = self.sizes.get(argument)
        is_size = argument.target in ("size", "dim", len, getattr) or argument.target is operator.getitem
        return isinstance(size, torch.Size) if size is not None else not is_size

    def name_first_module(self, traced: fx.Graph) -> None:
        """Raise InputError for the first module of the forward that is not convertible but has an alternative, if any has."""
        for node in traced.nodes:
            if node.op != "call_module" or node not in self.moving:
                continue
            module = self.modules[str(node.target)]
            name = type(module).__name__
            known = isinstance(module, LEAVES) or _by_name(module) is not None
            if not known and any(word in name.lower() for word in INSTEAD):
                raise self.refusal(module, f"layer '{node.target}', a {name},")

    def visit_module(self, node: fx.Node) -> str:
        path = str(node.target)
        module = self.modules[path]
        kind = next((kind for kind, types in KINDS.items() if isinstance(module, types)), None)
        kind = kind or _by_name(module)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is None:
            raise InputError(f"batch norm '{path}' keeps no running statistics; train it with track_running_stats=True")
        if kind is None:
            raise self.refusal(module, f"layer '{path}', a {type(module).__name__},")
        if kind == "affine":
            std = torch.as_tensor(module.std, dtype=torch.float64)
            module = Affine(1 / std, -torch.as_tensor(module.mean, dtype=torch.float64) / std)
        elif isinstance(module, nn.Hardtanh):
            module = clamp_module(module.min_val, module.max_val)
        elif isinstance(module, QCFS):
            module = QCFS(module.levels, module.threshold)
        elif isinstance(module, SpikeTimes) and module.saturates:
            module = CappedReLU(float(module.length))
        elif isinstance(module, BiasMapConv2d):
            module = BiasMapConv2d(module, module.bias_map.detach())
        elif isinstance(module, nn.AdaptiveMaxPool2d):
            assert isinstance(node.args[0], fx.Node)
            module = self.equal_windows(node, node.args[0], module.output_size)
        elif isinstance(module, nn.ZeroPad2d):
            module = Pad(module.padding)
        elif kind != "identity":
            module = _plain(module, path)
        return self.add(node, kind, [node.args[0]], module, path)

    def visit_branches(self, node: fx.Node, branches: list[Any], concat: bool) -> str:
        """The sum, or the concatenation, of several values."""
        if not concat:
            alpha = node.kwargs.get("alpha", 1)
            if set(node.kwargs) - {"alpha"} or not isinstance(alpha, int | float):
                raise self.refusal(node, f"an addition with {', '.join(map(str, node.kwargs))}, '{node}',")
            if alpha == 1:
                return self.add(node, "add", branches, Add())
            first, second = map(self.visit, branches)
            scale = self.unique_name("scale", "")
            self.nodes[scale] = Node(scale, "scale", (second,), Scale(alpha))
            self.names[node] = self.unique_name("add", "")
            self.nodes[self.names[node]] = Node(self.names[node], "add", (first, scale), Add())
            return self.names[node]
        axis = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))
        rank = len(self.sizes[node]) if node in self.sizes else 4
        if axis not in (1, 1 - rank):
            raise self.refusal(node, f"a concatenation along axis {axis}, '{node}',")
        if len(branches) == 1:
            return self.add(node, "identity", branches, nn.Identity())
        return self.add(node, "cat", branches, Concat())

    def visit_arithmetic(self, node: fx.Node, operation: str) -> str:
        """A value and a constant: x + c, x - c, c - x, c * x, x / c."""
        first, second = node.args
        reverse = not self.is_value(first)
        value, other = (second, first) if reverse else (first, second)
        if not self.is_value(value) or self.is_value(other):
            raise self.refusal(node, f"a {operation} of two activations, '{node}',")
        assert isinstance(value, fx.Node)
        if reverse and operation == "div":
            raise self.refusal(node, f"a division by an activation, '{node}',")
        constant = self.channels(node, self.constant(other))
        if operation == "mul" and constant.ndim == 0:
            return self.add(node, "scale", [value], Scale(constant))
        made = ARITHMETIC["reverse_sub" if reverse and operation == "sub" else operation](constant)
        return self.add(node, "affine", [value], Affine(*made))

    def visit_function(self, node: fx.Node, source: fx.Node) -> str | None:
        """A function of one value; None if it is not convertible."""
        if node.target in CASTS:
            return self.add(node, "identity", [source], nn.Identity())
        rest = [self.constant(argument) for argument in node.args[1:]]
        options = {name: self.constant(argument) for name, argument in node.kwargs.items()}
        if node.target in FUNCTIONS:
            kind, make = FUNCTIONS[node.target]
            try:
                module = make(*rest, **options)
            except TypeError as error:  # an argument that the module does not have
                raise self.refusal(node, f"'{node}' with these arguments ({error})") from error
            if kind == "avgpool" and self.spans_map(node, source, module):
                module = nn.AdaptiveAvgPool2d(1)  # at other sizes, too
            return self.add(node, kind, [source], module)
        if node.target in RESHAPES or (node.target is operator.getitem and self.has_indices(rest[0])):
            return self.visit_reshape(node, source, rest, options)
        if node.target in REDUCTIONS:
            known = {name: options.pop(name) for name in ("dim", "keepdim") if name in options}
            if more := [name for name, value in options.items() if value is not None]:
                raise self.refusal(node, f"'{node}' with {', '.join(more)}")
            return self.visit_reduction(node, source, *rest, **known)
        if node.target is F.adaptive_max_pool2d:
            return self.add(node, "maxpool", [source], self.equal_windows(node, source, *rest, **options))
        if node.target is operator.getitem:
            return self.visit_slice(node, source, rest[0])
        return None

    def spans_map(self, node: fx.Node, source: fx.Node, pool: nn.Module) -> bool:
        """Whether a pool's window is the size of the map that it reads, as in avg_pool2d(x, x.size()[2:])."""
        from_size = self.moving.intersection(node.all_input_nodes) - {source}
        if not from_size or source not in self.sizes or not isinstance(pool, nn.AvgPool2d):
            return False
        return pair(pool.kernel_size) == tuple(self.sizes[source][2:]) and not pool.divisor_override

    @staticmethod
    def has_indices(key: Any) -> bool:
        """Whether a key takes single places, as in x[:, :, 0, 0], instead of slices only."""
        return any(isinstance(part, int) for part in (key if isinstance(key, tuple) else (key,)))

    def visit_reshape(self, node: fx.Node, source: fx.Node, rest: list[Any], options: dict[str, Any]) -> str:
        """A reshape that flattens, or changes nothing."""
        if node in self.sizes:
            source = self.maps(source) or source
            before, after = self.sizes[source], self.sizes[node]
            if after == before:
                return self.add(node, "identity", [source], nn.Identity())
            if len(after) == 2 and after[0] == before[0] and after[1:].numel() == before[1:].numel():
                return self.add(node, "flatten", [source], nn.Flatten())
            raise self.refusal(node, f"'{node}', which makes {tuple(after[1:])} of {tuple(before[1:])},")
        if node.target not in RESHAPES:
            unknown_size(str(node))
        return self.add(node, "flatten", [source], RESHAPES[node.target](*rest, **options))

    def visit_reduction(self, node: fx.Node, source: fx.Node, dim: Any = None, keepdim: bool = False) -> str:
        """The mean or the maximum over all places of a map, of all at once or axis by axis, is a global pool."""
        kind, maps = REDUCTIONS[node.target], self.maps(source)
        axes = self.axes(source, dim)
        if REDUCTIONS.get(source.target) == kind and isinstance(
            source.args[0], fx.Node
        ):  # of one axis, then of the other
            inner, kept = source.args[0], len(self.sizes.get(source, MAPS)) == 4
            before = self.axes(inner, self.constant(source.kwargs.get("dim", [*source.args, None][1])))
            if before in ({2}, {3}) and axes == ({2, 3} - before if kept else {2}):
                source, axes = inner, {2, 3}
        elif maps is not None and axes == {2}:
            source, axes = maps, {2, 3}
        if axes != {2, 3} or len(self.sizes.get(source, MAPS)) != 4:
            what = "mean" if kind == "avgpool" else "maximum"
            raise self.refusal(node, f"a {what} over the axes {dim}, '{node}',")
        module = nn.AdaptiveAvgPool2d(1) if kind == "avgpool" else self.equal_windows(node, source, 1)
        if keepdim and len(self.sizes.get(node, MAPS)) == 4:
            return self.add(node, kind, [source], module)
        pool = self.unique_name(kind, "")
        self.nodes[pool] = Node(pool, kind, (self.visit(source),), module)
        self.names[node] = self.unique_name("flatten", "")
        self.nodes[self.names[node]] = Node(self.names[node], "flatten", (pool,), nn.Flatten())
        return self.names[node]

    def axes(self, source: fx.Node, dim: Any) -> set[int]:
        """The axes of a reduction, counted from the first."""
        axes = dim if isinstance(dim, list | tuple) else [] if dim is None else [dim]
        return {axis % len(self.sizes.get(source, MAPS)) for axis in axes}

    def maps(self, source: fx.Node) -> fx.Node | None:
        """The maps (B, C, H, W) of which a value (B, C, P), a reshape of them, lists the places; None for any other value."""
        shape, maps = self.sizes.get(source, ()), source
        while len(self.sizes.get(maps, ())) == 3 and maps.target in RESHAPES and isinstance(maps.args[0], fx.Node):
            maps = maps.args[0]
        before = self.sizes.get(maps, ())
        same = maps is not source and len(before) == 4 and before[:2] == shape[:2]
        return maps if same else None

    def equal_windows(
        self, node: fx.Node, source: fx.Node, output_size: Any, return_indices: bool = False
    ) -> nn.MaxPool2d:
        """An adaptive max-pool as a plain one. Raises InputError where its windows would differ in size."""
        if source not in self.sizes:
            unknown_size(str(node))
        sides = self.sizes[source][2:]
        wanted = output_size if isinstance(output_size, list | tuple) else (output_size,) * 2
        ends = [side if end is None else end for side, end in zip(sides, wanted, strict=True)]
        if any(side % end for side, end in zip(sides, ends, strict=True)):
            raise self.refusal(node, f"'{node}', a max-pool of {tuple(sides)} places with windows of unequal size,")
        return nn.MaxPool2d((sides[0] // ends[0], sides[1] // ends[1]))

    def visit_slice(self, node: fx.Node, source: fx.Node, key: Any) -> str:
        """x[:, c, y, x] with slices."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if not all(isinstance(part, slice) for part in parts) or parts[0] != slice(None):
            raise self.refusal(node, f"indexing by {key}, '{node}',")
        return self.add(node, "slice", [source], Slice([(part.start, part.stop, part.step) for part in parts[1:]]))

    def constant(self, argument: Any) -> Any:
        """The value of an argument that is no activation. Raises InputError if it depends on the size of unknown images."""
        if isinstance(argument, list | tuple):
            return type(argument)(self.constant(part) for part in argument)
        if isinstance(argument, slice):
            return slice(*(self.constant(part) for part in (argument.start, argument.stop, argument.step)))
        if not isinstance(argument, fx.Node):
            return argument
        if argument in self.sizes and not isinstance(self.sizes[argument], torch.Size):
            return self.sizes[argument]
        if argument in self.moving:
            if self.sizes:
                raise self.refusal(argument, f"'{argument}', an activation used as a setting,")
            return argument  # a size, which flattening does not need
        if argument.op == "get_attr":
            return operator.attrgetter(str(argument.target))(self.root)
        if argument.target in CASTS:
            return self.constant(argument.args[0])
        values = [self.constant(part) for part in argument.args]
        options = {name: self.constant(part) for name, part in argument.kwargs.items()}
        if argument.op == "call_method":
            return getattr(values[0], str(argument.target))(*values[1:], **options)
        assert callable(argument.target)
        return argument.target(*values, **options)

    def channels(self, node: fx.Node, constant: Any) -> Tensor:
        """A constant as one number, (), or as numbers per channel, (C,). Raises InputError for one that differs by place."""
        values = torch.as_tensor(constant, dtype=torch.float64).detach().cpu()
        if values.numel() == 1:
            return values.reshape(())
        rank = len(self.sizes[node]) if node in self.sizes else 2 if values.ndim < 3 else 4
        shape = (1,) * (rank - values.ndim) + tuple(values.shape)
        if len(shape) != rank or values.numel() != shape[1]:
            raise self.refusal(node, f"a constant of shape {tuple(values.shape)}, which differs by place, in '{node}',")
        return values.flatten()

    @staticmethod
    def refusal(what: fx.Node | nn.Module, given: str) -> InputError:
        """The error for something that is not convertible, with what to use instead."""
        name = str(what.target if isinstance(what, fx.Node) else type(what).__name__).lower()
        advice = next((f"; {text}" for word, text in INSTEAD.items() if word in name), "")
        return InputError(f"{given} cannot be converted{advice}; supported: {CONVERTIBLE}")

    def add(self, fx_node: fx.Node, kind: str, inputs: Sequence[Any], module: nn.Module, path: str = "") -> str:
        """Add a node behind its inputs; returns its name. path: the module's path in the network, if it is a module."""
        in_place = kind == "relu" and (
            (bool(path) and getattr(self.modules[path], "inplace", False))
            or fx_node.target in ("relu_", torch.relu_)
            or any(
                argument is True for argument in (*fx_node.args, *fx_node.kwargs.values())
            )  # not 1, as in clamp(0, 1)
        )
        if in_place and len(inputs[0].users) > 1:
            raise InputError(
                f"ReLU '{path or fx_node}' changes in place a value that is read again; make it inplace=False"
            )
        names = tuple(self.visit(node) for node in inputs)
        if kind == "identity":
            name = names[0]
        else:
            name = self.unique_name(kind, path)
            self.nodes[name] = Node(name, kind, names, module)
        self.names[fx_node] = name
        return name

    def unique_name(self, kind: str, path: str) -> str:
        """The path of a module as a name, or the kind and a count if the path has only numbers: conv1, conv2, linear1."""
        self.count[kind] += 1
        words = [word for word in path.split(".") if word and not word.isdigit()]
        name = path.replace(".", "_") if words else f"{kind}{self.count[kind]}"
        free = name
        while free in self.nodes or free == "input" or hasattr(nn.ModuleDict, free):
            self.count[name] += 1
            free = f"{name}_{self.count[name] + 1}"
        return free


def leaf_type(module: nn.Module) -> type[nn.Module]:
    """The type of KINDS as which a module is converted."""
    return next(leaf for leaf in LEAVES if isinstance(module, leaf))


def _plain(module: nn.Module, path: str) -> nn.Module:
    """A module of the type in KINDS, with the settings and the computed weights of `module`, in eval mode."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, COMPUTE_WEIGHTS):
            hook(module, ())
    base = leaf_type(module)
    names = [name for name in inspect.signature(base).parameters if name not in ("device", "dtype")]
    try:
        settings = {name: getattr(module, name) for name in names}
        if "bias" in settings:
            settings["bias"] = settings["bias"] is not None
        with torch.device("meta"):
            plain = base(**settings)
        weights = {name: getattr(module, name).detach() for name in plain.state_dict()}
        plain.load_state_dict(weights, assign=True)
    except (AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"layer '{path}' ({type(module).__name__}) lacks settings or weights of its base {base.__name__} ({reason}); "
            f"use a plain nn.{base.__name__}"
        ) from error
    return plain.eval()


def read_graph(
    net: nn.Module, dtype: torch.dtype | None = None, input_shape: Sequence[int] | None = None, share: bool = False
) -> Graph:
    """The graph of a network in eval mode, with modules of its own, in the given dtype or the one of the network.

    share: with the weights of the network, for a caller that neither changes them nor gives a dtype. input_shape: (C, H, W) of
    an image; a forward that computes with the sizes of its images needs it. Batch norms directly behind a convolution or linear
    layer are folded into it. Raises InputError for an operation that no conversion handles, images that do not fit, or a
    forward that torch.fx cannot trace. `check_graph` compares the graph with the network.
    """
    copy = eval_copy(net, share)
    return fold_batch_norms(trace(copy if dtype is None else copy.to(dtype), input_shape)[0])


def trace(net: nn.Module, input_shape: Sequence[int] | None = None) -> tuple[Graph, list[tuple[str, str]]]:
    """The graph of a network in eval mode, nothing folded, and all calls of modules: (path of the module, name of its node).

    The graph shares the network's weights. The node of a dropped module is the one that it reads; the name is "" if the
    output does not depend on the module.
    """
    try:
        traced = NetworkTracer().trace(net)
    except Exception as error:  # the network's forward runs here, and may fail on a traced value in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{type(net).__name__}.forward cannot be traced by torch.fx ({reason}); avoid branches on values"
        ) from error
    reader = _Reader(traced, net, {} if input_shape is None else _sizes(net, traced, input_shape))
    returned = next(node for node in traced.nodes if node.op == "output").args[0]
    if not isinstance(returned, fx.Node):
        raise InputError(
            f"{type(net).__name__} returns {type(returned).__name__}; a network that returns one tensor is needed"
        )
    try:
        output = reader.visit(returned)
    except InputError:
        reader.name_first_module(traced)
        raise
    calls = [(str(node.target), reader.names.get(node, "")) for node in traced.nodes if node.op == "call_module"]
    return Graph(reader.nodes, output), calls


def _sizes(net: nn.Module, traced: fx.Graph, input_shape: Sequence[int]) -> dict[fx.Node, Any]:
    """The shape of every tensor for two images, and the value of everything else."""
    run = _Sizes(fx.GraphModule(net, traced))
    parameter = next(net.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            run.run(torch.zeros(2, *input_shape, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:  # the network's forward runs here
        reason = str(error).partition("\n")[0]
        raise InputError(f"images of shape {tuple(input_shape)} do not fit the network ({reason})") from error
    return run.values
