"""Reads a ReLU network as a graph with torch.fx, from modules and functional calls alike.

Every module of the graph is one of torch's own, with the weights that the network computes at test: pruning and
parametrizations are resolved. What a subclass or a hook computes otherwise is not in the graph; check.py compares.
"""

import inspect
import operator
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import Add, Graph, Node, Scale
from respike.errors import InputError
from respike.networks.copying import eval_copy
from respike.networks.mlp import MaskDropout, UnmaskedReLU

CONVERTIBLE = "Linear, Conv2d, ReLU, AvgPool2d, BatchNorm, Flatten, Dropout, additions and constant factors"

# Kind of node -> the types of its modules.
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "relu": (UnmaskedReLU, nn.ReLU),
    "linear": (nn.Linear,),
    "conv": (nn.Conv2d,),
    "avgpool": (nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    "maxpool": (nn.MaxPool2d,),
    "batchnorm": (nn.BatchNorm1d, nn.BatchNorm2d),
    "flatten": (nn.Flatten,),
    "dropout_scale": (MaskDropout,),
    "identity": (nn.Identity, nn.Dropout, nn.Dropout2d),
    "softmax": (nn.Softmax, nn.LogSoftmax),
}
LEAVES = tuple(module_type for module_types in KINDS.values() for module_type in module_types)
COMPUTE_WEIGHTS = (BasePruningMethod, SpectralNorm, WeightNorm)  # hooks that set a weight before every forward


class _Tracer(fx.Tracer):
    """Does not trace into the modules of KINDS, which may be subclasses defined outside torch."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, LEAVES) or super().is_leaf_module(module, qualified_name)


def _max_pool(kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False) -> nn.Module:
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    if (start_dim, end_dim) != (1, -1):
        raise InputError(f"a reshape by flatten({start_dim}, {end_dim}) cannot be converted; only flatten(1) can")
    return nn.Flatten()


def _view(*shape: Any) -> nn.Module:
    """view(batch, -1) and view(-1, features) are read as flatten(1)."""
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    if len(shape) != 2 or -1 not in shape:
        raise InputError(f"a reshape to {shape} cannot be converted; only flattening to (batch, -1) can")
    return nn.Flatten()


# Function, or name of a tensor method -> kind of node, and what makes its module from the remaining arguments of the call.
FUNCTIONS: dict[Any, tuple[str, Any]] = {
    F.relu: ("relu", lambda inplace=False: nn.ReLU()),
    torch.relu: ("relu", nn.ReLU),
    "relu": ("relu", nn.ReLU),
    F.avg_pool2d: ("avgpool", nn.AvgPool2d),
    F.adaptive_avg_pool2d: ("avgpool", nn.AdaptiveAvgPool2d),
    F.max_pool2d: ("maxpool", _max_pool),
    torch.max_pool2d: ("maxpool", _max_pool),
    torch.flatten: ("flatten", _flatten),
    "flatten": ("flatten", _flatten),
    "view": ("flatten", _view),
    "reshape": ("flatten", _view),
    F.dropout: ("identity", lambda *args, **kwargs: nn.Identity()),
    F.softmax: ("softmax", lambda *args, **kwargs: nn.Softmax(dim=1)),
    F.log_softmax: ("softmax", lambda *args, **kwargs: nn.LogSoftmax(dim=1)),
    "contiguous": ("identity", nn.Identity),
}
ADDS = (operator.add, operator.iadd, torch.add, "add")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul")


class _Reader:
    """Collects the nodes of a traced network: visits from the output back to the input, adds inputs first, and names nodes."""

    def __init__(self, traced: fx.Graph, root: nn.Module):
        self.modules = dict(root.named_modules())
        self.nodes: dict[str, Node] = {}
        self.names: dict[fx.Node, str] = {}
        self.count: Counter[str] = Counter()
        self.images = next(node for node in traced.nodes if node.op == "placeholder")

    def visit(self, node: fx.Node) -> str:
        """Add a traced node and all nodes it depends on; returns its name."""
        if node in self.names:
            return self.names[node]
        if node is self.images:
            return "input"
        sources = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if node.op == "call_module":
            path = str(node.target)
            module = self.modules[path]
            kind = next((kind for kind, types in KINDS.items() if isinstance(module, types)), None)
            if kind:
                plain = module if kind == "identity" else _plain(module, path)
                return self.add(node, kind, sources[:1], plain, path)
            raise InputError(f"layer '{path}' is a {type(module).__name__}; convertible are {CONVERTIBLE}")
        if node.target in ADDS and len(sources) == 2 and not node.kwargs:
            return self.add(node, "add", sources, Add())
        factors = [arg for arg in node.args if isinstance(arg, int | float)]
        if node.target in PRODUCTS and len(sources) == 1 and len(factors) == 1:
            return self.add(node, "scale", sources, Scale(factors[0]))
        if node.target in FUNCTIONS:
            kind, make = FUNCTIONS[node.target]
            return self.add(node, kind, sources[:1], make(*node.args[1:], **node.kwargs))
        raise InputError(
            f"operation '{node}' in the network's forward is not convertible; convertible are {CONVERTIBLE}"
        )

    def add(self, fx_node: fx.Node, kind: str, inputs: list[fx.Node], module: nn.Module, path: str = "") -> str:
        """Add a node behind its inputs; returns its name. path: the module's path in the network, if it is a module."""
        in_place = kind == "relu" and (
            getattr(module, "inplace", False) or True in (*fx_node.args, *fx_node.kwargs.values())
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


def read_graph(net: nn.Module, dtype: torch.dtype | None = None) -> Graph:
    """The graph of a network in eval mode, with modules of its own, in the given dtype or the one of the network.

    Batch norms directly behind a convolution or linear layer are folded into it. Raises InputError for an operation that no
    conversion handles, or a forward that torch.fx cannot trace. `check_graph` compares it with the network.
    """
    copy = eval_copy(net)
    return fold_batch_norms(trace(copy if dtype is None else copy.to(dtype))[0])


def trace(net: nn.Module) -> tuple[Graph, list[tuple[str, str]]]:
    """The graph of a network in eval mode, nothing folded, and all calls of modules: (path of the module, name of its node).

    The graph shares the network's weights. The node of a dropped module is the one that it reads; the name is "" if the
    output does not depend on the module.
    """
    try:
        traced = _Tracer().trace(net)
    except Exception as error:  # the network's forward runs here, and may fail on a traced value in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{type(net).__name__}.forward cannot be traced by torch.fx ({reason}); avoid branches on values"
        ) from error
    reader = _Reader(traced, net)
    returned = next(node for node in traced.nodes if node.op == "output").args[0]
    if not isinstance(returned, fx.Node):
        raise InputError(
            f"{type(net).__name__} returns {type(returned).__name__}; a network that returns one tensor is needed"
        )
    output = reader.visit(returned)
    calls = [(str(node.target), reader.names.get(node, "")) for node in traced.nodes if node.op == "call_module"]
    return Graph(reader.nodes, output), calls
