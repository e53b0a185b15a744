"""How well the firing of a converted network represents the activations of its ReLU network, layer by layer."""

import math
from typing import Any

import torch
from torch import Tensor

from respike.convert.calibration import Images
from respike.convert.graph.nodes import Graph, per_channel
from respike.convert.rate.qcfs import quantizer
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.scales import activations
from respike.simulate.rate.stepwise import mean_rates


def rate_correlations(
    snn: RateSNN, graph: Graph, node_of_layer: dict[str, str], images: Tensor, **settings: Any
) -> dict[str, float]:
    """Pearson's coefficient of rates after all steps and activations, over images and neurons, for every layer.

    Rates in units of activations: times the scale of the layer, or of the channel. graph, node_of_layer: the network that was
    converted, as `build_rate_snn` returns them. images: (B, C, H, W), a few. settings: keywords of `simulate`; the simulation
    runs in floating point. Layers whose values are all equal are left out.
    """
    rates, seen = mean_rates(snn, images, **settings), dict[str, list[Tensor]]()
    for layer, value in activations(graph, node_of_layer, images):
        seen.setdefault(layer, []).append(value.cpu())
    found = {}
    for layer, parts in seen.items():
        spiking = rates[layer].double().cpu()
        spiking *= per_channel(torch.as_tensor(snn.scales[layer], dtype=torch.float64), spiking)
        both = torch.stack([spiking.flatten(), torch.cat(parts).double().flatten()])
        coefficient = float(torch.corrcoef(both)[0, 1])
        if math.isfinite(coefficient):
            found[layer] = coefficient
    return found


def unevenness_metrics(
    snn: RateSNN, graph: Graph, node_of_layer: dict[str, str], images: Tensor, **settings: Any
) -> dict[str, float]:
    """snn/unevenness/<layer>: share of units whose spikes in T = L steps are not L times their QCFS activation over theta.

    In the first layer, whose input is constant, they are equal (Bu et al. 2022); behind it they differ where spikes arrive
    unevenly. snn/unevenness: the share of all units behind the first layer. {} for a network without QCFS, or with several L.
    Arguments as in `rate_correlations`; dt, duration, start_at_zero and read_from are ignored: T is L steps.
    """
    neurons = {layer: node for layer, node in node_of_layer.items() if snn.layer(layer).kind == "relu"}
    quantizers = [quantizer(graph, node) for node in neurons.values()]
    levels = {found.levels if found else 0 for found in quantizers}
    if len(levels) != 1 or 0 in levels:
        return {}
    (steps,) = levels
    settings |= {"dt": 0.001, "duration": 0.001 * steps, "start_at_zero": False, "read_from": 0}
    rates, seen = mean_rates(snn, images, **settings), dict[str, list[Tensor]]()
    for layer, value in activations(graph, neurons, images):
        seen.setdefault(layer, []).append((value.double() * steps / snn.scales[layer]).round().cpu())
    uneven = {layer: (rates[layer].double() * steps).round().cpu() != torch.cat(seen[layer]) for layer in neurons}
    deep = [part.flatten() for layer, part in uneven.items() if snn.layer(layer).sources != ["input"]]
    whole = {"snn/unevenness": float(torch.cat(deep).double().mean())} if deep else {}
    return whole | {f"snn/unevenness/{layer}": float(part.double().mean()) for layer, part in uneven.items()}


def unit_shares(
    snn: RateSNN, graph: Graph, node_of_layer: dict[str, str], images: Images
) -> dict[str, tuple[float, float]]:
    """Shares of dead and of saturated neurons of every layer that stands for ReLUs, over calibration images.

    Dead: its activation is 0 for every image. Saturated: for some image it is above the scale, that of one spike per step.
    """
    neurons = {layer: node for layer, node in node_of_layer.items() if snn.layers[layer].kind == "relu"}
    largest: dict[str, Tensor] = {}
    for layer, value in activations(graph, neurons, images):
        peak = value.amax(0)
        largest[layer] = torch.maximum(largest[layer], peak) if layer in largest else peak
    shares = {}
    for layer, peak in largest.items():
        scale = per_channel(torch.as_tensor(snn.scales[layer], device=peak.device), peak[None])
        shares[layer] = (float((peak <= 0).double().mean()), float((peak[None] > scale).double().mean()))
    return shares
