"""Weight normalization: every layer is scaled so that one spike per step can represent its activations.

Every method chooses one scale per layer, the ReLU activation that one spike per step represents. `RateSNN.rescale` then divides
by it: W_l <- W_l * scale_{l-1} / scale_l, b_l <- b_l / scale_l. A scale is one number per layer or one per channel. Sources: Diehl et al. 2015, algorithms 1 and 2; Rueckauer et
al. 2017, equation 8.
"""

import torch
from torch import Tensor, nn

from respike.convert.calibration import Images, first_image_shape
from respike.convert.graph.nodes import Embed
from respike.convert.graph.trace import read_graph
from respike.convert.rate.rate_snn import RateSNN, SpikingLayer
from respike.convert.rate.scales import max_scale, percentile_scale
from respike.convert.rate.wiring import build_rate_snn
from respike.errors import InputError, SilentLayer

CONVENTIONS = ("lambda", "authors_code")
SCALES = ("layer", "channel")


def no_norm(
    net: nn.Module,
    images: Images | None = None,
    *,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "counts",
) -> RateSNN:
    """Spiking layers with the network's weights unchanged. Of `images` only the shape is used.

    fold_dropout, spiking_pools, max_pool, readout: as in `build_rate_snn`.
    """
    images, shape = first_image_shape(images)
    return build_rate_snn(read_graph(net, shape), fold_dropout, spiking_pools, max_pool, readout, shape)[0]


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
    code does; from the third layer on activations then no longer peak at 1 (chains only).
    scale: one per "layer", or one per "channel", from activations alone. output_layer: normalize the output layer too.
    fold_dropout, spiking_pools, max_pool, readout: as in `build_rate_snn`.
    Raises InputError for a network that rate-coded spikes cannot represent, SilentLayer for a layer without activation.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"convert.convention={convention}: unknown, choose convert.convention={' or '.join(CONVENTIONS)}"
        )
    by_channel = _by_channel(scale)
    images, shape = first_image_shape(images)
    graph = read_graph(net, shape)
    snn, node_of_layer = build_rate_snn(graph, fold_dropout, spiking_pools, max_pool, readout, shape)
    measured = max_scale(graph, _measured(snn, node_of_layer, output_layer), images, by_channel)
    if not by_channel:
        measured = {name: measured[name].clamp(min=_largest_weight(snn.layer(name))) for name in measured}
    return _normalize(snn, measured, output_layer, convention)


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
    by_channel = _by_channel(scale)
    images, shape = first_image_shape(images)
    graph = read_graph(net, shape)
    snn, node_of_layer = build_rate_snn(graph, fold_dropout, spiking_pools, max_pool, readout, shape)
    measured = percentile_scale(q, zeros)(graph, _measured(snn, node_of_layer, output_layer), images, by_channel)
    return _normalize(snn, measured, output_layer)


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
    """Model-based normalization: no input in [0, 1] drives any neuron above 1. Of `images` only the shape is used.

    A layer is divided by the largest sum over one neuron's positive weights (and its positive bias). strong: false divides
    only where that sum exceeds 1, as the authors' CNN code does. Other arguments and errors as in `data_norm`.
    """
    images, shape = first_image_shape(images)
    snn, _ = build_rate_snn(read_graph(net, shape), fold_dropout, spiking_pools, max_pool, readout, shape)
    scales: dict[str, float | Tensor] = {"input": 1.0}
    for name in snn.layers:
        layer = snn.layer(name)
        source_scale = max(float(scales[source]) for source in layer.sources)
        if layer.kind == "current":
            raise InputError(
                f"layer '{name}' hands on currents of both signs, whose size model_norm cannot bound; use convert=data_norm"
            )
        if layer.kind in ("pool", "max") or (name == snn.output and not output_layer):
            scales[name] = source_scale
        else:
            factor = _largest_drive(layer, scales) / source_scale
            if factor <= 0:
                raise SilentLayer(f"layer '{name}' has no positive weight: train the network")
            scales[name] = source_scale * (factor if strong else max(1.0, factor))
    return _rescale(snn, scales)


def _by_channel(scale: str) -> bool:
    if scale not in SCALES:
        raise InputError(f"convert.scale={scale}: unknown, choose convert.scale={' or '.join(SCALES)}")
    return scale == "channel"


def _normalize(
    snn: RateSNN, measured: dict[str, Tensor], output_layer: bool, convention: str = "lambda"
) -> RateSNN:
    """Rescale by measured scales. The authors' code has scale_l = scale_{l-1} * measured_l / factor_{l-1} instead.

    A channel without activation takes the scale of its layer's strongest channel.
    """
    scales: dict[str, float | Tensor] = {"input": 1.0}
    previous_factor = 1.0
    for name in snn.layers:
        layer = snn.layer(name)
        if layer.kind in ("pool", "max"):
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
            found = torch.where(measured[name] > 0, measured[name], measured[name].max())
            scales[name] = found if found.ndim else float(found)
    return _rescale(snn, scales)


def _joined(layer: SpikingLayer, scales: dict[str, float | Tensor]) -> float | Tensor:
    """The scale of a pool: that of its source, or of each of its concatenated sources."""
    first = scales[layer.sources[0]]
    if len(layer.synapses) == 1 and not any(isinstance(module, Embed) for module in layer.synapses[0]):
        return first
    whole = torch.ones((), dtype=torch.float64)
    for synapse in layer.synapses:
        embed = next(module for module in synapse if isinstance(module, Embed))
        part = torch.as_tensor(scales[synapse.source], dtype=torch.float64).expand(embed.channels)
        if whole.ndim == 0:
            whole = torch.ones(embed.before + embed.channels + embed.after, dtype=torch.float64)
        whole[embed.before : embed.before + embed.channels] = part
    return whole


def _rescale(snn: RateSNN, scales: dict[str, float | Tensor]) -> RateSNN:
    """Rescale in place, and keep the factor of each layer with weights."""
    layers = {name: snn.layer(name) for name in snn.layers}
    snn.factors = {
        name: _mean(scales[name]) / _source_scale(layer, scales)
        for name, layer in layers.items()
        if layer.kind not in ("pool", "max", "current")
    }
    snn.rescale(scales)
    return snn


def _mean(scale: float | Tensor) -> float:
    return float(scale.mean()) if isinstance(scale, Tensor) else scale


def _source_scale(layer: SpikingLayer, scales: dict[str, float | Tensor]) -> float:
    """The largest (mean) scale of a layer's sources: the scale of the layer if it is not normalized."""
    return max(_mean(scales[source]) for source in layer.sources)


def _measured(snn: RateSNN, node_of_layer: dict[str, str], output_layer: bool) -> dict[str, str]:
    """The layers whose activations are measured, and their nodes."""
    kept = output_layer and snn.readout == "counts"
    return {
        name: node
        for name, node in node_of_layer.items()
        if snn.layer(name).kind not in ("pool", "max", "current") and (kept or name != snn.output)
    }


def _largest_weight(layer: SpikingLayer) -> float:
    weighted = [synapse.weighted for synapse in layer.synapses]
    return max((float(m.weight.max()) for m in weighted if isinstance(m, nn.Linear | nn.Conv2d)), default=0.0)


def _largest_drive(layer: SpikingLayer, scales: dict[str, float | Tensor]) -> float:
    """The largest drive of one neuron if every source fires at its scale: sum of W+ * scale, plus b+."""
    total = torch.zeros(())
    for synapse in layer.synapses:
        weighted, scale = synapse.weighted, float(scales[synapse.source])
        if isinstance(weighted, nn.Linear | nn.Conv2d):
            total = total + weighted.weight.clamp(min=0).flatten(1).sum(1) * scale
        else:  # an identity shortcut or constant factors
            total = total + max(0.0, 1.0 if weighted is None else float(weighted.factor.max())) * scale
    if layer.bias is not None:
        total = total + layer.bias.clamp(min=0).flatten(1).amax(1) if layer.bias.ndim > 1 else total + layer.bias.clamp(min=0)
    return float(total.max())
