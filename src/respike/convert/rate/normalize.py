"""Weight normalization: every layer is scaled so that one spike per step can represent its activations.

Every method chooses one scale per layer, the ReLU activation that one spike per step represents. `RateSNN.rescale` then divides
by it: W_l <- W_l * scale_{l-1} / scale_l, b_l <- b_l / scale_l. Sources: Diehl et al. 2015, algorithms 1 and 2; Rueckauer et
al. 2017, equation 8.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respike.convert.calibration import Images, first_images
from respike.convert.graph.check import check_graph
from respike.convert.graph.nodes import Graph
from respike.convert.graph.trace import read_graph
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.convert.rate.scales import max_scale, percentile_scale
from respike.convert.rate.wiring import build_rate_snn, check_rate_snn
from respike.errors import InputError, SilentLayer

CONVENTIONS = ("lambda", "authors_code")


@dataclass(frozen=True)
class _Wired:
    """A network in conversion: spiking layers with its weights, its graph, the node of each layer, images to compare on."""

    snn: RateSNN
    graph: Graph
    node_of_layer: dict[str, str]
    few: Tensor | None
    fold_dropout: bool

    @property
    def measured(self) -> dict[str, str]:
        """The node of each layer that is not a pool."""
        return {name: node for name, node in self.node_of_layer.items() if self.snn.layer(name).kind != "pool"}

    def checked(self) -> RateSNN:
        """The spiking network, whose values are those of the graph up to its scales. Raises InputError if they are not."""
        if self.few is not None and len(self.few):
            check_rate_snn(self.snn, self.graph, self.node_of_layer, self.few, self.fold_dropout)
        return self.snn


def _wire(net: nn.Module, images: Images | None, fold_dropout: bool, spiking_pools: bool) -> tuple[_Wired, Images]:
    """The network with unchanged weights, its graph compared with it on a few of the images; and all images."""
    few, images = (None, ()) if images is None else first_images(images)
    graph = read_graph(net)
    snn, node_of_layer = build_rate_snn(graph, fold_dropout, spiking_pools)
    check_graph(net, few)
    return _Wired(snn, graph, node_of_layer, few, fold_dropout), images


def no_norm(
    net: nn.Module, images: Images | None = None, *, fold_dropout: bool = True, spiking_pools: bool = True
) -> RateSNN:
    """Spiking layers with the network's weights unchanged. `images` only serve to compare the result with the network."""
    return _wire(net, images, fold_dropout, spiking_pools)[0].checked()


def data_norm(
    net: nn.Module,
    images: Images,
    *,
    convention: str = "lambda",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
) -> RateSNN:
    """Data-based normalization: the scale of a layer is its largest activation over `images`, or its largest weight if larger.

    images: (B, C, H, W) in [0, 1], uint8 pixels, or an iterable of such tensors; the training set, not the test set.
    convention: "lambda" divides each layer by its scale and multiplies it by the previous layer's scale (the paper's text, and
    Rueckauer 2017). "authors_code" multiplies by the factor that was *applied* to the previous layer, as the published MATLAB
    code does; from the third layer on activations then no longer peak at 1 (chains only). Like that code it also looks for a
    convolution's largest weight in its first kernel only (k{1}{1}: its loop `1:size(k)` ends at 1), which matters where a
    weight exceeds every activation.
    output_layer: normalize the output layer too. fold_dropout, spiking_pools: as in `build_rate_snn`.
    Raises InputError for a network that rate-coded spikes cannot represent, SilentLayer for a layer without activation.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"convert.convention={convention}: unknown, choose convert.convention={' or '.join(CONVENTIONS)}"
        )
    wired, images = _wire(net, images, fold_dropout, spiking_pools)
    activations = max_scale(wired.graph, wired.measured, images)
    authors = convention == "authors_code"
    scales = {name: max(activations[name], _largest_weight(wired.snn.layer(name), authors)) for name in activations}
    _normalize(wired.snn, scales, output_layer, convention)
    return wired.checked()


def percentile_norm(
    net: nn.Module,
    images: Images,
    *,
    q: float = 0.999,
    zeros: bool = True,
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
) -> RateSNN:
    """Robust normalization (Rueckauer et al. 2017): the q-quantile of the activations instead of their maximum.

    q in (0, 1]; zeros: whether silent neurons count in the quantile. Other arguments and errors as in `data_norm`.
    """
    wired, images = _wire(net, images, fold_dropout, spiking_pools)
    _normalize(wired.snn, percentile_scale(q, zeros)(wired.graph, wired.measured, images), output_layer)
    return wired.checked()


def model_norm(
    net: nn.Module,
    images: Images | None = None,
    *,
    output_layer: bool = True,
    strong: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
) -> RateSNN:
    """Model-based normalization: no input in [0, 1] drives any neuron above 1. `images` are used as in `no_norm`.

    A layer is divided by the largest sum over one neuron's positive weights (and its positive bias). strong: false divides
    only where that sum exceeds 1, as the authors' CNN code does. Other arguments and errors as in `data_norm`.
    """
    wired, _ = _wire(net, images, fold_dropout, spiking_pools)
    snn = wired.snn
    scales: dict[str, float] = {"input": 1.0}
    for name in snn.layers:
        layer = snn.layer(name)
        source_scale = _source_scale(layer, scales)
        if layer.kind == "pool" or (name == snn.output and not output_layer):
            scales[name] = source_scale
        else:
            factor = _largest_drive(layer, scales) / source_scale
            if factor <= 0:
                raise SilentLayer(f"layer '{name}' has no positive weight: train the network")
            scales[name] = source_scale * (factor if strong else max(1.0, factor))
    _rescale(snn, scales)
    return wired.checked()


def _normalize(snn: RateSNN, measured: dict[str, float], output_layer: bool, convention: str = "lambda") -> None:
    """Rescale by measured scales. The authors' code has scale_l = scale_{l-1} * measured_l / factor_{l-1} instead."""
    scales, previous_factor = {"input": 1.0}, 1.0
    for name in snn.layers:
        layer = snn.layer(name)
        source_scale = _source_scale(layer, scales)
        if layer.kind == "pool" or (name == snn.output and not output_layer):
            scales[name] = source_scale
        elif measured[name] <= 0:
            raise SilentLayer(
                f"layer '{name}' is silent on the calibration images: train the network, or give other images"
            )
        elif convention == "authors_code":
            if len(layer.synapses) > 1:
                raise InputError(
                    "convert.convention=authors_code is defined for chains of layers; use convert.convention=lambda"
                )
            previous_factor = measured[name] / previous_factor
            scales[name] = source_scale * previous_factor
        else:
            scales[name] = measured[name]
    _rescale(snn, scales)


def _rescale(snn: RateSNN, scales: dict[str, float]) -> None:
    """Rescale in place, and keep the factor of each layer with weights."""
    layers = {name: snn.layer(name) for name in snn.layers}
    snn.factors = {
        name: scales[name] / _source_scale(layer, scales) for name, layer in layers.items() if layer.kind != "pool"
    }
    snn.rescale(scales)


def _source_scale(layer: SpikingLayer, scales: dict[str, float]) -> float:
    """The largest scale of a layer's sources: the scale of the layer if it is not normalized."""
    return max(scales[source] for source in layer.sources)


def _largest_weight(layer: SpikingLayer, first_kernel: bool = False) -> float:
    """The largest weight, at least 0. first_kernel: of a convolution only the kernel from input map 0 to output map 0."""
    largest = 0.0
    for synapse in layer.synapses:
        weighted = synapse.weighted
        if isinstance(weighted, nn.Linear | nn.Conv2d):
            kernels = weighted.weight[0, 0] if first_kernel and isinstance(weighted, nn.Conv2d) else weighted.weight
            largest = max(largest, float(kernels.max()))
    return largest


def _largest_drive(layer: SpikingLayer, scales: dict[str, float]) -> float:
    """The largest drive of one neuron if every source fires at its scale: sum of W+ * scale, plus b+."""
    total = torch.zeros(())
    for synapse in layer.synapses:
        weighted = synapse.weighted
        if not isinstance(weighted, nn.Linear | nn.Conv2d):  # an identity shortcut or a constant factor
            total = total + max(0.0, float(getattr(weighted, "factor", 1.0))) * scales[synapse.source]
            continue
        total = total + weighted.weight.clamp(min=0).flatten(1).sum(1) * scales[synapse.source]
        if weighted.bias is not None:
            total = total + weighted.bias.clamp(min=0)
    return float(total.max())
