"""Compares the graph of a network with the network itself, layer by layer in float64, on a few calibration images.

A subclass of a convertible layer, a hook, or an operation that runs otherwise than torch.fx traced it is judged by its values.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from respike.convert.calibration import EMPTY
from respike.convert.graph.fold import fold_batch_norms
from respike.convert.graph.nodes import Graph
from respike.convert.graph.trace import COMPUTE_WEIGHTS, leaf_type, trace
from respike.errors import InputError
from respike.networks.copying import in_double
from respike.system.distributed import all_gather

TOLERANCE = 1e-6  # of the largest value of a layer; both sides are float64


def check_graph(net: nn.Module, images: Tensor | None) -> None:
    """Raise InputError for the first layer of a network whose values are not those of its graph.

    images: (B, C, H, W); None if there are none, then a layer with a forward or hooks of its own is refused. In a distributed
    run a process may have an empty tensor, and all of them raise the error of one.
    """
    if images is None:
        _refuse_own_code(net)
        return
    found = all_gather((len(images), _difference(net, images) if len(images) else ""))
    if not any(count for count, _ in found):
        raise InputError(EMPTY)
    for _, difference in found:
        if difference:
            raise InputError(difference)


def _refuse_own_code(net: nn.Module) -> None:
    if net._forward_pre_hooks or net._forward_hooks:  # torch.fx does not trace the hooks of the network itself
        raise InputError(
            "the network has hooks of its own, which only values can compare; give images, as in model_norm(net, images)"
        )
    for path, module in net.named_modules():
        if _has_own_code(module):
            raise InputError(
                f"layer '{path}' ({type(module).__name__}) has a forward or hooks of its own, which only values can compare "
                f"with nn.{leaf_type(module).__name__}; give images, as in model_norm(net, images) or no_norm(net, images)"
            )


def _has_own_code(module: nn.Module) -> bool:
    """Whether a module that is converted has a forward or hooks that may compute something else than its type in KINDS."""
    try:
        base = leaf_type(module)
    except StopIteration:
        return False
    hooks = [hook for hook in module._forward_pre_hooks.values() if not isinstance(hook, COMPUTE_WEIGHTS)]
    methods = ("forward", "_conv_forward")
    own = any(
        name in vars(module) or getattr(type(module), name, None) is not getattr(base, name, None) for name in methods
    )
    return own or bool(hooks) or bool(module._forward_hooks)


def _difference(net: nn.Module, images: Tensor) -> str:
    """What differs first between the network and its graph, and what to do; "" if nothing does."""
    copy, images = in_double(net), images.cpu().double()
    raw, calls = trace(copy, images.shape[1:])
    values, output = _values(copy, images)
    found = _first_difference(fold_batch_norms(raw), raw, calls, values, output, images)
    if found is None:
        return ""
    # a convolution in front of a folded batch norm has no value of its own; in the raw graph it has
    path, what = _first_difference(raw, raw, calls, values, output, images) or found
    if not path:
        return f"the network's output {what}: an operation behind the last layer computes something else in the network"
    module = net.get_submodule(path)
    if not _has_own_code(module):
        if "nan" in what:
            return f"layer '{path}' {what}: train the network again"
        return (
            f"the value of layer '{path}' {what}: an operation in front of it computes something else when the network runs; "
            "use operations without side effects, and dropout that is off at test"
        )
    base = leaf_type(module).__name__
    return (
        f"layer '{path}' ({type(module).__name__}) {what}: it has a forward or hooks of its own and is no {base}; use a plain "
        f"nn.{base}, with the weights that the layer computes"
    )


def _values(net: nn.Module, images: Tensor) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Of all modules by path, what each call returned, in order; and what the network returned."""
    values: dict[str, list[Tensor]] = defaultdict(list)
    for path, module in net.named_modules():
        # a copy, because an operation in place may follow
        module.register_forward_hook(lambda module, args, value, path=path: values[path].append(_clone(value)))
    try:
        with torch.no_grad():
            return values, net(images.clone())
    except Exception as error:  # a forward of a user's own may fail in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the network does not take images of shape {tuple(images.shape[1:])} in float64 ({reason})"
        ) from error


def _clone(value: Tensor) -> Tensor:
    return value.clone() if isinstance(value, Tensor) else value


def _first_difference(
    graph: Graph,
    raw: Graph,
    calls: list[tuple[str, str]],
    values: dict[str, list[Tensor]],
    output: Tensor,
    images: Tensor,
) -> tuple[str, str] | None:
    """(path of the first module whose values differ, or "" for the output; how they differ); None if none does."""
    place = {"input": "input"} | {name: _place(name, graph, raw) for name in raw.nodes}
    last = {
        place[name]: name for name in place
    }  # of a layer and the batch norms folded into it, the last has its value
    expected: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)  # name of a node -> number of a call, its value
    seen: dict[str, int] = defaultdict(int)
    for number, (path, name) in enumerate(calls):
        if seen[path] >= len(values[path]):
            return path, "is not called when the network runs, but when it is traced: its forward remembers calls"
        if name and last[place[name]] == name:
            expected[place[name]].append((number, values[path][seen[path]]))
        seen[path] += 1
    expected[graph.output].append((len(calls), output))
    different: dict[int, str] = {}
    with torch.no_grad():
        for name, value in graph.stream(images):
            for number, call in expected[name]:
                how = _how_different(value, call)
                if how:
                    different[number] = how
    if not different:
        return None
    first = min(different)
    return (calls[first][0] if first < len(calls) else ""), different[first]


def _place(name: str, graph: Graph, raw: Graph) -> str:
    """The node of the graph that has the value of a node of the raw graph: a batch norm's is that of the layer it is in."""
    while name not in graph.nodes:
        name = raw.nodes[name].inputs[0]
    return name


def _how_different(value: Tensor, expected: Tensor) -> str:
    """How a value differs from the network's, "" if it does not."""
    if value.shape != expected.shape:
        return f"has the shape {tuple(expected.shape)}, not {tuple(value.shape)}"
    if not bool(expected.isfinite().all()):
        return "has values that are nan or infinite"
    if not value.numel():
        return ""
    difference, largest = float((value - expected).abs().max()), float(expected.abs().max())
    if difference <= TOLERANCE * largest:
        return ""
    share = difference / largest if largest else math.inf
    return f"differs from the graph that is converted, by {share:.2g} of its largest value"
