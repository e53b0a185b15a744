"""Weight normalization: every layer is scaled so that one spike per step can represent its activations.

Every method chooses one scale per layer, the ReLU activation that one spike per step represents. `RateSNN.rescale` then divides
by it: W_l <- W_l * scale_{l-1} / scale_l, b_l <- b_l / scale_l. A scale is one number per layer or one per channel. Sources:
Diehl et al. 2015, algorithms 1 and 2; Rueckauer et al. 2017, equation 8.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.convert.calibration import Images, first_images, images_shape
from respike.convert.graph.check import check_graph
from respike.convert.graph.nodes import Embed, Graph, Scale
from respike.convert.graph.trace import read_graph
from respike.convert.rate.paths import through
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.convert.rate.scales import max_scale, percentile_scale
from respike.convert.rate.wiring import build_rate_snn, cap_of, check_rate_snn
from respike.errors import InputError, SilentLayer
from respike.networks.copying import device_of, on_cpu
from respike.networks.qcfs import QCFS

CONVENTIONS = ("lambda", "authors_code")
SCALES = ("layer", "channel")
WEAKEST = 256  # the strongest channel of a layer has at most so many times the scale of the weakest
Scales = dict[str, float | Tensor]  # per layer: one number, or one per channel (C,)


@dataclass(frozen=True)
class _Wired:
    """A network in conversion: spiking layers with its weights, its graph, the node of each layer, images to compare on.

    device: of the network and of its graph. The spiking layers are on the CPU until they are `checked`, because the algebra of
    scales is small.
    """

    snn: RateSNN
    graph: Graph
    node_of_layer: dict[str, str]
    few: Tensor | None
    fold_dropout: bool
    device: torch.device

    def measured(self, output_layer: bool) -> dict[str, str]:
        """The node of each layer whose activations decide its scale."""
        kept = output_layer and self.snn.readout == "counts"
        return {
            name: node
            for name, node in self.node_of_layer.items()
            if self.snn.layer(name).kind not in UNSCALED and (kept or name != self.snn.output)
        }

    def cap(self, name: str) -> float:
        """The largest scale of a layer: the cap of its ReLUs, which neurons that spike at every step then represent."""
        cap = cap_of(self.graph, self.node_of_layer[name]) if self.snn.layer(name).kind == "relu" else None
        return math.inf if cap is None else cap

    def checked(self) -> RateSNN:
        """The spiking network, whose values are those of the graph up to its scales. Raises InputError if they are not."""
        if self.few is not None and len(self.few):
            graph = self.graph.to(torch.device("cpu"))
            check_rate_snn(self.snn, graph, self.node_of_layer, self.few.cpu(), self.fold_dropout)
        return self.snn.to(self.device)


UNSCALED = ("pool", "max", "current")  # kinds of layers that keep the scale of their sources, or their units


def wire(
    net: nn.Module,
    images: Images | None,
    fold_dropout: bool,
    spiking_pools: bool,
    max_pool: str,
    readout: str,
    trained: bool = False,
) -> tuple[_Wired, Images]:
    """The network with unchanged weights, its graph compared with it on a few of the images; and all images.

    trained: scales will be the thresholds of QCFS activations; a network with these is refused otherwise.
    """
    few, images = (None, ()) if images is None else first_images(images)
    shape = None if few is None else images_shape(few)
    graph = read_graph(on_cpu(net), input_shape=shape, share=True)
    quantized = next((node.name for node in graph.nodes.values() if isinstance(node.module, QCFS)), None)
    if quantized is not None and not trained:
        raise InputError(f"layer '{quantized}' has a trained threshold (QCFS), which is its scale; type convert=qcfs")
    snn, node_of_layer, graph = build_rate_snn(graph, fold_dropout, spiking_pools, max_pool, readout, shape)
    check_graph(net, few)
    device = device_of(net)
    return _Wired(snn, graph.to(device), node_of_layer, few, fold_dropout, device), images


def no_norm(
    net: nn.Module,
    images: Images | None = None,
    *,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
) -> RateSNN:
    """Spiking layers with the network's weights unchanged. `images` only serve to compare the result with the network.

    A layer whose ReLUs are capped below 1 is divided by the cap. fold_dropout, spiking_pools, max_pool, readout: as in
    `build_rate_snn`.
    """
    wired, _ = wire(net, images, fold_dropout, spiking_pools, max_pool, readout)
    if any(wired.cap(name) < 1 for name in wired.snn.layers):
        scales: Scales = {"input": 1.0}
        for name in wired.snn.layers:
            layer = wired.snn.layer(name)
            scales[name] = _joined(layer, scales) if layer.kind in ("pool", "max") else min(1.0, wired.cap(name))
        wired.snn.rescale(scales)
    return wired.checked()


def data_norm(
    net: nn.Module,
    images: Images,
    *,
    convention: str = "lambda",
    scale: str = "layer",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
) -> RateSNN:
    """Data-based normalization: the scale of a layer is its largest activation over `images`, or its largest weight if larger.

    images: (B, C, H, W) in [0, 1], uint8 pixels, or an iterable of such tensors; the training set, not the test set.
    convention: "lambda" divides each layer by its scale and multiplies it by the previous layer's scale (the paper's text, and
    Rueckauer 2017). "authors_code" multiplies by the factor that was *applied* to the previous layer, as the published MATLAB
    code does; from the third layer on activations then no longer peak at 1 (chains only). Like that code it also looks for a
    convolution's largest weight in its first kernel only (k{1}{1}: its loop `1:size(k)` ends at 1), which matters where a
    weight exceeds every activation.
    scale: one per "layer", or one per "channel", from activations alone. output_layer: normalize the output layer too.
    fold_dropout, spiking_pools, max_pool, readout: as in `build_rate_snn`.
    Raises InputError for a network that rate-coded spikes cannot represent, SilentLayer for a layer without activation.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"convert.convention={convention}: unknown, choose convert.convention={' or '.join(CONVENTIONS)}"
        )
    by_channel = _by_channel(scale)
    if by_channel and convention == "authors_code":
        raise InputError(
            "convert.scale=channel: convert.convention=authors_code has one scale per layer; type convert.scale=layer"
        )
    wired, images = wire(net, images, fold_dropout, spiking_pools, max_pool, readout)
    measured = max_scale(wired.graph, wired.measured(output_layer), images, by_channel)
    if not by_channel:
        authors = convention == "authors_code"
        weights = {name: _largest_weight(wired.snn.layer(name), authors) for name in measured}
        measured = {name: measured[name].clamp(min=weights[name]).clamp(max=wired.cap(name)) for name in measured}
    normalize(wired.snn, measured, convention)
    return wired.checked()


def percentile_norm(
    net: nn.Module,
    images: Images,
    *,
    q: float = 0.999,
    zeros: bool = True,
    scale: str = "layer",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
) -> RateSNN:
    """Robust normalization (Rueckauer et al. 2017): the q-quantile of the activations instead of their maximum.

    q in (0, 1]; zeros: whether silent neurons count in the quantile. Other arguments and errors as in `data_norm`.
    """
    return measured_norm(
        net, images, percentile_scale(q, zeros), scale, output_layer, fold_dropout, spiking_pools, max_pool, readout
    )


def measured_norm(
    net: nn.Module,
    images: Images,
    measure: Callable[..., dict[str, Tensor]],
    scale: str,
    output_layer: bool,
    fold_dropout: bool,
    spiking_pools: bool,
    max_pool: str,
    readout: str,
) -> RateSNN:
    """Scales that a function like `scales.max_scale` measures on the images, at most the cap of a layer's ReLUs.

    Other arguments and errors as in `data_norm`.
    """
    by_channel = _by_channel(scale)
    wired, images = wire(net, images, fold_dropout, spiking_pools, max_pool, readout)
    measured = measure(wired.graph, wired.measured(output_layer), images, by_channel)
    normalize(wired.snn, {name: found.clamp(max=wired.cap(name)) for name, found in measured.items()})
    return wired.checked()


def model_norm(
    net: nn.Module,
    images: Images | None = None,
    *,
    output_layer: bool = True,
    strong: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
) -> RateSNN:
    """Model-based normalization: no input in [0, 1] drives any neuron above 1. `images` are used as in `no_norm`.

    A layer is divided by the largest sum over one neuron's positive weights (and its positive bias). strong: false divides
    only where that sum exceeds 1, as the authors' CNN code does. Other arguments and errors as in `data_norm`.
    """
    wired, _ = wire(net, images, fold_dropout, spiking_pools, max_pool, readout)
    snn = wired.snn
    scales: Scales = {"input": 1.0}
    for name in snn.layers:
        layer = snn.layer(name)
        source_scale = max(
            float(torch.as_tensor(scales[source], dtype=torch.float64).max()) for source in layer.sources
        )
        if layer.kind == "current":
            raise InputError(
                f"layer '{name}' hands on currents of both signs, whose size model_norm cannot bound; use convert=data_norm"
            )
        if layer.kind in ("pool", "max"):
            scales[name] = _joined(layer, scales)
        elif name == snn.output and not output_layer:
            scales[name] = source_scale
        else:
            drive = _largest_drive(layer, scales)
            if drive <= 0:
                raise SilentLayer(f"layer '{name}' has no positive weight: train the network")
            scales[name] = min(drive if strong else max(source_scale, drive), wired.cap(name))
    if torch.as_tensor(scales[snn.output]).unique().numel() > 1:
        raise InputError(f"'{snn.output}' pools layers of different scales as classes; use convert=data_norm")
    _rescale(snn, scales)
    return wired.checked()


def _by_channel(scale: str) -> bool:
    if scale not in SCALES:
        raise InputError(f"convert.scale={scale}: unknown, choose convert.scale={' or '.join(SCALES)}")
    return scale == "channel"


def normalize(snn: RateSNN, measured: dict[str, Tensor], convention: str = "lambda") -> None:
    """Rescale by measured scales. The authors' code has scale_l = scale_{l-1} * measured_l / factor_{l-1} instead.

    A channel without activation takes the scale of its layer's strongest channel; one with hardly any, of which few calibration
    images say little, 1 / WEAKEST of it: other images would saturate it, and its weights would leave the grid. The output has
    one scale for all classes, which are compared with each other.
    """
    measured = _one_output_scale(snn, measured)
    scales: Scales = {"input": 1.0}
    previous_factor = 1.0
    for name in snn.layers:
        layer = snn.layer(name)
        if layer.kind == "max" or (layer.kind == "pool" and (name != snn.output or snn.readout == "counts")):
            scales[name] = _joined(layer, scales)
        elif name not in measured:  # currents, and an output that keeps its units
            scales[name] = 1.0 if layer.kind == "current" or snn.readout == "current" else _source_scale(layer, scales)
        elif not bool((measured[name] > 0).any()):
            raise SilentLayer(
                f"layer '{name}' is silent on the calibration images: train the network, or give other images"
            )
        elif convention == "authors_code":
            if len(layer.synapses) > 1:
                raise InputError(
                    "convert.convention=authors_code is defined for chains of layers; use convert.convention=lambda"
                )
            previous_factor = float(measured[name]) / previous_factor
            scales[name] = _source_scale(layer, scales) * previous_factor
        else:
            strongest = measured[name].max()
            found = torch.where(measured[name] > 0, measured[name].clamp(min=strongest / WEAKEST), strongest)
            scales[name] = found if found.ndim else float(found)
    _rescale(snn, scales)


def _one_output_scale(snn: RateSNN, measured: dict[str, Tensor]) -> dict[str, Tensor]:
    """The measured scales with one number for the output layer, and, if that is a pool, for the layers that it pools."""
    if snn.readout == "current" and snn.layer(snn.output).kind == "pool":
        return measured  # its summed current has the units of the network
    compared = {snn.output}
    for name in reversed(list(snn.layers)):
        if name in compared and snn.layer(name).kind in ("pool", "max"):
            compared.update(snn.layer(name).sources)
    found = {name: measured[name].max() for name in compared if name in measured}
    return measured | dict.fromkeys(found, max(found.values())) if found else measured


def _joined(layer: SpikingLayer, scales: Scales) -> float | Tensor:
    """The scale of a pool: that of its source, or of each of its concatenated sources."""
    first = scales[layer.sources[0]]
    if len(layer.synapses) == 1 and not any(isinstance(module, Embed) for module in layer.synapses[0]):
        return first
    parts = []
    for synapse in layer.synapses:
        part = torch.as_tensor(scales[synapse.source], dtype=torch.float64).reshape(-1)
        for module in synapse:
            part = _passed(part, module)
        parts.append(part)
    whole = torch.stack(parts).sum(0)
    return torch.where(whole > 0, whole, 1.0)


def _passed(values: Tensor, module: nn.Module) -> Tensor:
    """One number for all channels (1,) or one per channel (C,), behind a module; 0 where a concatenation adds channels."""
    return through(module, values, 0.0) if len(values) > 1 or isinstance(module, Embed) else values


def _rescale(snn: RateSNN, scales: Scales) -> None:
    """Rescale in place, and keep the factor of each layer with weights."""
    layers = {name: snn.layer(name) for name in snn.layers}
    snn.factors = {
        name: _mean(scales[name]) / _source_scale(layer, scales)
        for name, layer in layers.items()
        if layer.kind not in UNSCALED
    }
    snn.rescale(scales)


def _mean(scale: float | Tensor) -> float:
    return float(scale.mean()) if isinstance(scale, Tensor) else scale


def _source_scale(layer: SpikingLayer, scales: Scales) -> float:
    """The largest (mean) scale of a layer's sources: the scale of the layer if it is not normalized."""
    return max(_mean(scales[source]) for source in layer.sources)


def _largest_weight(layer: SpikingLayer, first_kernel: bool = False) -> float:
    """The largest weight, at least 0. first_kernel: of a convolution only the kernel from input map 0 to output map 0."""
    largest = 0.0
    for synapse in layer.synapses:
        weighted = synapse.weighted
        if isinstance(weighted, nn.Linear | nn.Conv2d):
            kernels = weighted.weight[0, 0] if first_kernel and isinstance(weighted, nn.Conv2d) else weighted.weight
            largest = max(largest, float(kernels.max()))
    return largest


def _largest_drive(layer: SpikingLayer, scales: Scales) -> float:
    """The largest drive of one neuron if every source fires at its scale: sum of W+ * scale, plus b+."""
    parts = [] if layer.bias is None else [layer.bias.double().clamp(min=0).flatten(1 if layer.bias.ndim > 1 else 0)]
    parts = [part.amax(1) if part.ndim > 1 else part for part in parts]
    for synapse in copy.deepcopy(layer.synapses):
        if isinstance(weighted := synapse.weighted, nn.Linear | nn.Conv2d):
            weighted.weight.data.clamp_(min=0)
        synapse.rescale(scales[synapse.source], 1.0)
        drive = torch.ones(1, dtype=torch.float64)  # per channel, or one number for all
        for module in synapse:
            if isinstance(module, nn.Linear | nn.Conv2d):
                drive = module.weight.double().flatten(1).sum(1)
            elif isinstance(module, Scale):
                drive = (drive * module.factor).clamp(min=0)
            else:
                drive = _passed(drive, module)
        parts.append(drive)
    width = max(map(len, parts))
    return float(torch.stack([part.repeat_interleave(width // len(part)) for part in parts]).sum(0).max())
