"""Weight normalization: scale each layer so that one spike per step can stand for its activations.

Every method chooses one scale per layer (which activation one spike per step stands for) and hands them to
`RateSNN.rescale`, which divides: W_l <- W_l * scale_{l-1} / scale_l, b_l <- b_l / scale_l. Sources: Diehl et al.
2015, algorithms 1 and 2; Rueckauer et al. 2017, equation 8.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from respike.convert.graph.trace import read_graph
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.convert.rate.rewire import build
from respike.convert.rate.scales import max_scale, percentile_scale
from respike.errors import InputError, SilentLayer

Images = Tensor | Iterable[Tensor]
CONVENTIONS = ("lambda", "authors_code")


def no_norm(
    net: nn.Module, images: Images | None = None, *, fold_dropout: bool = True, spiking_pools: bool = True
) -> RateSNN:
    """The network's own weights in spiking layers. `images` are not looked at."""
    return build(read_graph(net), fold_dropout, spiking_pools)[0]


def data_norm(
    net: nn.Module,
    images: Images,
    *,
    convention: str = "lambda",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
) -> RateSNN:
    """Data-based normalization: the scale of a layer is its largest activation over `images`, or weight if larger.

    images: (B, C, H, W) in [0, 1], uint8 pixels, or an iterable of such tensors; the training set, not the test set.
    convention: "lambda" divides each layer by its own scale and multiplies by the previous one (the text, and
    Rueckauer 2017); "authors_code" multiplies by the previous *applied* factor, as the published MATLAB does, so
    that from the third layer on activations no longer peak at 1 (chains only).
    output_layer: normalize the output layer too. Raises InputError for a network that rate coding cannot carry.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"convert.convention={convention}: unknown, choose convert.convention={' or '.join(CONVENTIONS)}"
        )
    graph = read_graph(net)
    snn, taps = build(graph, fold_dropout, spiking_pools)
    activations = max_scale(graph, _weighted(snn, taps), images)
    scales = {name: max(activations[name], _largest_weight(snn.layers[name])) for name in activations}
    return _apply(snn, scales, output_layer, convention == "authors_code")


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

    q in (0, 1]; zeros: whether silent neurons count in the quantile. The rest as in `data_norm`.
    """
    graph = read_graph(net)
    snn, taps = build(graph, fold_dropout, spiking_pools)
    return _apply(snn, percentile_scale(q, zeros)(graph, _weighted(snn, taps), images), output_layer, False)


def model_norm(
    net: nn.Module,
    images: Images | None = None,
    *,
    output_layer: bool = True,
    strong: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
) -> RateSNN:
    """Model-based normalization: no neuron can be driven above 1, whatever the input. Needs no data.

    A layer is divided by the largest sum over a neuron's positive weights (and its positive bias); strong=false
    does so only where that sum exceeds 1 (the authors' CNN code).
    """
    snn, _ = build(read_graph(net), fold_dropout, spiking_pools)
    scales: dict[str, float] = {"input": 1.0}
    for name, layer in snn.layers.items():
        carried = _carried(layer, scales)
        if layer.kind == "pool" or (name == snn.output and not output_layer):
            scales[name] = carried
        else:
            factor = _largest_drive(layer, scales) / carried
            if factor <= 0:
                raise SilentLayer(f"layer '{name}' has no positive weight: train the network")
            scales[name] = carried * (factor if strong else max(1.0, factor))
    return _finish(snn, scales)


def _apply(snn: RateSNN, measured: dict[str, float], output_layer: bool, carry_factor: bool) -> RateSNN:
    """Rescale by measured scales. carry_factor: the authors' convention, scale_l = scale_{l-1} * measured_l / factor_{l-1}."""
    scales, previous_factor = {"input": 1.0}, 1.0
    for name, layer in snn.layers.items():
        carried = _carried(layer, scales)
        if layer.kind == "pool" or (name == snn.output and not output_layer):
            scales[name] = carried
        elif measured[name] <= 0:
            raise SilentLayer(
                f"layer '{name}' is silent on the calibration images: train the network, or give other images"
            )
        elif carry_factor:
            if len(layer.synapses) > 1:
                raise InputError(
                    "convert.convention=authors_code is defined for chains of layers; use convert.convention=lambda"
                )
            previous_factor = measured[name] / previous_factor
            scales[name] = carried * previous_factor
        else:
            scales[name] = measured[name]
    return _finish(snn, scales)


def _finish(snn: RateSNN, scales: dict[str, float]) -> RateSNN:
    snn.factors = {
        name: scales[name] / _carried(layer, scales) for name, layer in snn.layers.items() if layer.kind != "pool"
    }
    snn.rescale(scales)
    return snn


def _carried(layer: SpikingLayer, scales: dict[str, float]) -> float:
    """The scale a layer has if it is not normalized itself: the largest of its sources."""
    return max(scales[source] for source in layer.sources)


def _weighted(snn: RateSNN, taps: dict[str, str]) -> dict[str, str]:
    return {name: node for name, node in taps.items() if snn.layers[name].kind != "pool"}


def _largest_weight(layer: SpikingLayer) -> float:
    return max(
        (float(synapse.weighted.weight.max()) for synapse in layer.synapses if hasattr(synapse.weighted, "weight")),
        default=0.0,
    )


def _largest_drive(layer: SpikingLayer, scales: dict[str, float]) -> float:
    """The largest drive of any neuron of the layer if every source fires at its scale: sum of W+ * scale, plus b+."""
    total = torch.zeros(())
    for synapse in layer.synapses:
        weighted = synapse.weighted
        if not hasattr(weighted, "weight"):  # an identity shortcut or a constant factor
            total = total + max(0.0, float(getattr(weighted, "factor", 1.0))) * scales[synapse.source]
            continue
        total = total + weighted.weight.clamp(min=0).flatten(1).sum(1) * scales[synapse.source]
        if weighted.bias is not None:
            total = total + weighted.bias.clamp(min=0)
    return float(total.max())
