"""Training in spike time (Stanojevic et al. 2024): a ReLU network becomes a network of B1 neurons, which is trained as such."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from respike.convert.exact.preprocessing import preprocess
from respike.convert.graph.nodes import BiasMapConv2d, CappedReLU, Graph
from respike.convert.graph.trace import trace
from respike.errors import InputError, SilentLayer
from respike.networks.copying import eval_copy
from respike.networks.qcfs import replace_relus
from respike.networks.spike_times import BOUNDS, Hardware, SpikeTimes
from respike.networks.standardize import Standardize
from respike.training.classifier import Classifier

KEPT = {"conv", "linear", "relu", "maxpool", "flatten"}  # of a network whose modules stay in place


class SpikeTimeClassifier(Classifier):
    """Trains the leads of spikes in place of ReLU activations; batch norms are folded into the weights before.

    net, and all settings up to `kind`: as in `Classifier`. input_range: [p, q]; a pixel x spikes (x - p) / (q - p) before
    t_min. largest: X_n of every layer at the start; None: measured on training images. quantile: X_n is this quantile of the
    positive activations instead, intervals stay as they are, and larger activations spike at t_min, with zero gradient. zeta:
    an interval is (1 + zeta) X_n. gamma: after each batch an interval becomes gamma times the batch's largest activation, if
    that is longer. weight_bits: weights are rounded to 2^bits levels, one of which is 0, in weight_range, or from the smallest
    to the largest of a layer (None), with the gradient of unrounded ones. time_noise, levels, alpha_noise, neurons: of
    `Hardware`. spike_penalty: weight in the loss of the spikes per image, counted by `smooth_count`.
    Raises InputError for other values.
    """

    def __init__(
        self,
        net: nn.Module,
        *args: Any,
        input_range: Sequence[float] = (0.0, 1.0),
        largest: float | None = 1000.0,
        quantile: float | None = None,
        zeta: float = 0.5,
        gamma: float = 10.0,
        time_noise: float = 0.0,
        levels: int | None = None,
        alpha_noise: float = 0.0,
        neurons: str = "b1",
        weight_bits: int | None = None,
        weight_range: Sequence[float] | None = (-1.0, 1.0),
        spike_penalty: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(net, *args, **kwargs)
        self.hardware = Hardware(time_noise, levels, alpha_noise, neurons)
        if not zeta > -1:
            raise InputError(f"lit.zeta={zeta}: above -1 is needed, or a layer has no time to fire; as in lit.zeta=0.5")
        if largest is not None and not largest > 0:
            raise InputError(f"lit.largest={largest}: above 0, or null to measure it, as in lit.largest=1000")
        if quantile is not None and not 0 < quantile <= 1:
            raise InputError(f"lit.quantile={quantile}: in (0, 1], or null for the largest, as in lit.quantile=0.99")
        if quantile is not None and neurons == "alpha":
            raise InputError(
                f"lit.quantile={quantile}: neurons of the exact mapping may fire before t_min; type lit.neurons=b1"
            )
        if weight_bits is not None and not 2 <= weight_bits <= 24:
            raise InputError(f"lit.weight_bits={weight_bits}: 2 to 24, or null, as in lit.weight_bits=6")
        if not spike_penalty >= 0:
            raise InputError(f"lit.spike_penalty={spike_penalty}: 0 or more is needed, as in lit.spike_penalty=1e-5")
        if weight_range is not None and not (len(weight_range) == 2 and weight_range[0] < 0 < weight_range[1]):
            raise InputError(
                f"lit.weight_range={list(weight_range)}: a number below 0 and one above, or null, as in lit.weight_range=[-1,1]"
            )
        self.input_range = float(input_range[0]), float(input_range[1])
        self.largest, self.quantile, self.zeta, self.gamma = largest, quantile, zeta, gamma
        self.weight_bits, self.weight_range = weight_bits, weight_range
        self.spike_penalty = spike_penalty
        self.rounded = False  # whether the weights of `net` are the rounded ones

    def spike_layers(self) -> dict[str, SpikeTimes]:
        """The layers of spiking neurons by name, in order; empty before `prepare`."""
        return {name: module for name, module in self.net.named_modules() if isinstance(module, SpikeTimes)}

    @property
    def latency(self) -> float:
        """t_min of the output layer."""
        return 1 + sum(float(layer.length) for layer in self.spike_layers().values())

    def prepare(self, images: Tensor) -> None:
        """Make `net` spike and set its intervals, before a training or a test. images: of the training set (B, C, H, W).

        Raises InputError for a network that cannot be trained so, and for noise as wide as an interval.
        """
        if not self.spike_layers():
            start = 1.0 if self.largest is None else (1 + self.zeta) * self.largest
            saturates = self.quantile is not None
            self.net = spike_time_net(self.net, images, self.input_range, start, saturates, self.hardware)
            if self.largest is None or saturates:
                set_intervals(self.net, images, 1 + self.zeta, self.quantile)
        lengths = {name: float(layer.length) for name, layer in self.spike_layers().items()}
        for name, length in ({"input": 1.0} | lengths).items():
            if not self.hardware.time_noise < length:
                raise InputError(
                    f"lit.time_noise={self.hardware.time_noise}: as wide as the interval of '{name}', {length:.4g}; "
                    "type lit.time_noise=0.01"
                )

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of `Classifier`, and the penalty on spikes."""
        layers = list(self.spike_layers().values())
        for layer in layers:
            layer.counts = self.spike_penalty > 0
        loss = super().training_step(batch, index)
        counts = [layer.spikes for layer in layers if layer.counts and layer.spikes is not None]
        return loss + self.spike_penalty * sum(counts) if counts else loss

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> potentials of the output layer at its t_min (B, classes)."""
        if self.training and (self.hardware.time_noise or self.hardware.levels is not None):
            p, q = self.input_range
            images = self.hardware.disturbed((images - p) / (q - p), 1.0).clamp(max=1) * (q - p) + p
        if self.weight_bits is None or self.rounded:
            return self.net(images)
        return functional_call(self.net, self._rounded_weights(), (images,))

    def _rounded_weights(self) -> dict[str, Tensor]:
        assert self.weight_bits is not None
        return {
            name: rounded(weight, self.weight_bits, self.weight_range)
            for name, weight in self.net.named_parameters()
            if name.rpartition(".")[2] == "weight"
        }

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lengthen the intervals; log fit/latency."""
        for layer in self.spike_layers().values():
            layer.widen(self.gamma)
        self.log("fit/latency", self.latency, on_step=False, on_epoch=True, reduce_fx="max", batch_size=1)

    def on_test_start(self) -> None:
        """Round the weights for good, for whatever reads them from here on."""
        if self.weight_bits is not None and not self.rounded:
            self.net.load_state_dict(self._rounded_weights(), strict=False)
            self.rounded = True


def rounded(weight: Tensor, bits: int, weight_range: Sequence[float] | None) -> Tensor:
    """Weights on an asymmetric grid of 2^bits numbers, one of which is 0; straight-through within the grid's ends.

    weight_range: the ends before the grid is shifted by less than half a step to hold 0; None: those of the weights.
    """
    if weight_range is None:
        weight_range = min(float(weight.detach().min()), 0.0), max(float(weight.detach().max()), 0.0)
    low, high = weight_range
    step = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / step)
    low, high = -zero * step, (2**bits - 1 - zero) * step
    inside = weight.clamp(low, high)
    return inside + ((inside / step).round() * step - inside).detach()


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
    if input_range == (0.0, 1.0) and _can_stay(trace(eval_copy(net), shape)[0], bounds is not None):
        if bounds is not None:
            _copy_weights(chain, net, shape)
        net = replace_relus(
            net, lambda: SpikeTimes(length, saturates, hardware), "lit=spike_times", "nn.ReLU(), a module,"
        )
    else:
        net = _sequence(chain, input_range, len(few[0]), length, saturates, hardware).to(few.dtype).train(net.training)
    _wire(net, shape)
    return net


def _can_stay(graph: Graph, rescaled: bool) -> bool:
    """Whether the modules of a network compute as spiking neurons if its ReLUs are replaced."""
    kept = KEPT if rescaled else KEPT | {"dropout_scale"}
    relus = [node for node in graph.nodes.values() if node.kind == "relu"]
    direct = all(graph.nodes[node.inputs[0]].kind in ("conv", "linear") for node in relus if node.inputs[0] != "input")
    capped = any(isinstance(node.module, CappedReLU) for node in relus)
    return direct and not capped and all(node.kind in kept for node in graph.nodes.values())


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
        layer for layer in net.modules() if isinstance(layer, SpikeTimes) and layer.saturates and quantile is None
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
