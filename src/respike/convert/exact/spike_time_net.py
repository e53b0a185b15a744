"""A ReLU network becomes a network of B1 neurons that can be trained in spike time (Stanojevic et al. 2024)."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from respike.convert.exact.preprocessing import preprocess
from respike.convert.graph.nodes import BiasMapConv2d, CappedReLU, Graph
from respike.convert.graph.trace import NetworkTracer, trace
from respike.errors import InputError, SilentLayer
from respike.networks.copying import eval_copy
from respike.networks.qcfs import replace_relus
from respike.networks.spike_times import BOUNDS, Hardware, SpikeTimes
from respike.networks.standardize import Standardize

KEPT = {"conv", "linear", "relu", "maxpool", "flatten", "softmax"}  # of a network whose modules stay in place
CLAMPS = {"clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_"}  # ReLUs that `replace_relus` does not know


def spike_time_net(
    net: nn.Module,
    images: Tensor,
    input_range: tuple[float, float],
    length: float,
    saturates: bool = False,
    hardware: Hardware | None = None,
) -> nn.Module:
    """The network with `SpikeTimes` in place of every hidden ReLU, whose weights are to be trained; same values.

    A network of layers, ReLUs, max-pools and dropout alone keeps its modules, and `net` itself is changed. Any other is read as
    the exact mapping reads it, into a sequence of layers without batch norms; dropout is left out of it. images: a few
    (B, C, H, W) within input_range; length, saturates: of `SpikeTimes`; hardware: for neurons="alpha" weights are rescaled as
    by `exact_map`. Raises InputError for a network that the exact mapping refuses.
    """
    bounds = BOUNDS if hardware is not None and hardware.neurons == "alpha" else None
    shape = images.shape[1:]
    few = images[:8]
    chain = preprocess(net, shape, input_range, bounds, images=few)
    _refuse_branches(chain)
    if input_range == (0.0, 1.0) and _can_stay(net, shape, bounds is not None):
        if bounds is not None:
            _copy_weights(chain, net, shape)
        net = replace_relus(
            net, lambda: SpikeTimes(length, saturates, hardware), "lit=spike_times", "nn.ReLU(), a module,"
        )
    else:
        made = _sequence(chain, input_range, len(few[0]), length, saturates, hardware)
        whole = trace(eval_copy(net), shape)[0]
        if whole.nodes[whole.output].kind == "softmax":
            made.append(whole.nodes[whole.output].module)
        net = made.to(few.dtype).train(net.training)
    _wire(net, shape)
    return net


def _refuse_branches(chain: Graph) -> None:
    previous = "input"
    for node in chain.nodes.values():
        if node.inputs != (previous,) or node.kind == "windows":
            raise InputError(
                f"training in spike time takes no branches and no average pools, as at '{node.name}'; train the network as "
                "ReLUs and map it then: type lit=relu"
            )
        previous = node.name


def _can_stay(net: nn.Module, shape: torch.Size, rescaled: bool) -> bool:
    """Whether the modules of a network compute as spiking neurons if its ReLUs are replaced.

    rescaled: whether their weights are rescaled as well, each for one place in the network.
    """
    graph, _ = trace(eval_copy(net), shape)
    called = [path for path, module in _weighted(net, shape) if not isinstance(module, SpikeTimes)]
    kept = KEPT if rescaled else KEPT | {"dropout_scale"}
    relus = [node for node in graph.nodes.values() if node.kind == "relu"]
    direct = all(graph.nodes[node.inputs[0]].kind in ("conv", "linear") for node in relus if node.inputs[0] != "input")
    capped = any(isinstance(node.module, CappedReLU) for node in relus)
    if not direct or capped or not all(node.kind in kept for node in graph.nodes.values()):
        return False
    return not _clamps(net) and not (rescaled and len(set(called)) < len(called))


def _clamps(net: nn.Module) -> bool:
    """Whether a forward clamps by a function."""
    functions = (
        node.target for node in NetworkTracer().trace(net).nodes if node.op in ("call_function", "call_method")
    )
    return any(getattr(function, "__name__", function) in CLAMPS for function in functions)


def _weighted(net: nn.Module, shape: torch.Size) -> list[tuple[str, nn.Module]]:
    """(path, module) of all calls of layers with weights and of `SpikeTimes`, in order."""
    calls = trace(eval_copy(net), shape)[1]
    modules = [(path, net.get_submodule(path)) for path, _ in calls]
    return [(path, module) for path, module in modules if isinstance(module, nn.Linear | nn.Conv2d | SpikeTimes)]


def _copy_weights(chain: Graph, net: nn.Module, shape: torch.Size) -> None:
    """Give the layers of a network the weights of its chain."""
    nodes = [node for node in chain.nodes.values() if node.kind in ("conv", "linear")]
    for node, (_, layer) in zip(nodes, _weighted(net, shape), strict=True):
        layer.load_state_dict(node.module.state_dict(), strict=False)


def _sequence(
    chain: Graph,
    input_range: tuple[float, float],
    channels: int,
    length: float,
    saturates: bool,
    hardware: Hardware | None,
) -> nn.Sequential:
    """The nodes of a preprocessed chain as a network to be trained, which takes images in input_range."""
    p, q = input_range
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if input_range != (0.0, 1.0):
        layers["unit_range"] = Standardize([p] * channels, [q - p] * channels)
    for name, node in chain.nodes.items():
        module = node.module
        if node.kind == "relu" and name != chain.output:
            capped = isinstance(module, CappedReLU)
            module = SpikeTimes(module.cap if capped else length, saturates or capped, hardware)
            module.capped = capped  # type: ignore[assignment]  # see `set_intervals`
        elif isinstance(module, BiasMapConv2d):
            bias_map = module.bias_map
            del module.bias_map
            module.bias_map = nn.Parameter(bias_map.detach().clone())
        layers[name] = module
    return nn.Sequential(layers).requires_grad_(True)


def _wire(net: nn.Module, shape: torch.Size) -> None:
    """Tell each layer of spikes its synapses and its sources."""
    synapses, source = nn.Module(), None
    for _, module in _weighted(net, shape):
        if isinstance(module, SpikeTimes):
            module.wire(synapses, source)
            source = module
        else:
            synapses = module


def set_intervals(net: nn.Module, images: Tensor, factor: float, quantile: float | None = None) -> None:
    """Set each interval to `factor` times the layer's largest activation on images (B, C, H, W).

    quantile: times this quantile of its positive activations. Layers of ReLU6 keep theirs. Raises SilentLayer for a
    layer without a positive activation.
    """
    capped = {
        layer
        for layer in net.modules()
        if isinstance(layer, SpikeTimes) and layer.saturates and (quantile is None or getattr(layer, "capped", False))
    }
    found: dict[SpikeTimes, float] = {}

    def measure(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(layer, SpikeTimes)
        scaled = layer.scaled(inputs[0])
        positive = scaled[scaled > 0]
        if not len(positive):
            raise SilentLayer("a layer is silent on the training images: train the network, or type lit.largest=1000")
        rank = len(positive) if quantile is None else max(1, round(quantile * len(positive)))
        found[layer] = float(positive.kthvalue(rank).values)
        return output if layer in capped else inputs[0].relu()

    layers = [module for module in net.modules() if isinstance(module, SpikeTimes)]
    hooks = [layer.register_forward_hook(measure) for layer in layers]
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad():
            net.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    for layer, largest in found.items():
        if layer not in capped:
            layer.length.fill_(factor * largest)
