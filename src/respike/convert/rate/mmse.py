"""Thresholds of least quantization error (Li et al., ICML 2021, arXiv 2106.06984, section 4.2 and the authors' code).

In T steps a neuron of threshold theta represents an activation a by one of T + 1 values. Its scale is

    theta = argmin over theta_k of mean( (a - Q_k(a))^2 ),    Q_k(a) = theta_k / T clip( floor(T a / theta_k + shift), 0, T ),

of 95 candidates theta_k = max(a) (1 - 0.01 k), k = 0 .. 94. The authors' code has shift 0. A neuron that starts at half a
threshold rounds to the nearest value, which is shift 1/2. Here the errors are summed over all calibration images; the authors
average the thetas of augmented batches with a momentum. A threshold depends on T: it grows towards the maximum with T.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from respike.convert.calibration import Images
from respike.convert.graph.nodes import Graph
from respike.convert.rate.normalize import measured_norm
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.scales import activations, max_scale
from respike.errors import InputError
from respike.system.distributed import all_gather

ROUNDINGS = {"half": 0.5, "floor": 0.0}
CANDIDATES = 1 - 0.01 * torch.arange(95, dtype=torch.float64)  # shares of the maximum
PART = 1 << 16  # values at a time, which stay in the cache


def mmse_norm(
    net: nn.Module,
    images: Images,
    *,
    steps: int,
    rounding: str = "half",
    scale: str = "channel",
    output_layer: bool = True,
    fold_dropout: bool = True,
    spiking_pools: bool = True,
    max_pool: str = "count",
    readout: str = "current",
) -> RateSNN:
    """One spike per step represents the candidate whose T-step quantization of the activations has the least squared error.

    steps: T of the simulation to come. rounding: "half", floor(. + 1/2), for neurons that start at half a threshold; "floor",
    as the authors' code. Other arguments and errors as in `data_norm`.
    """
    measure = mmse_scale(steps, rounding)
    return measured_norm(net, images, measure, scale, output_layer, fold_dropout, spiking_pools, max_pool, readout)


def quantized(a: Tensor, theta: Tensor, steps: int, shift: float) -> Tensor:
    """Q(a): activations a as a neuron of threshold theta represents them in T = `steps` steps."""
    return (a * steps).div_(theta).add_(shift).floor_().clamp_(0, steps).mul_(theta / steps)


def mmse_scale(steps: int, rounding: str = "half") -> Callable[..., dict[str, Tensor]]:
    """A function like `max_scale` that returns the thresholds of least error. It reads the images twice.

    Raises InputError for less than one step and an unknown rounding.
    """
    if steps < 1:
        raise InputError(f"convert.steps={steps}: a whole number from 1 up, as in convert.steps=8")
    if rounding not in ROUNDINGS:
        known = " or ".join(f"convert.rounding={name}" for name in ROUNDINGS)
        raise InputError(f"convert.rounding={rounding}: unknown, choose {known}")

    def scale(
        graph: Graph, node_of_layer: dict[str, str], images: Images, by_channel: bool = False
    ) -> dict[str, Tensor]:
        images = images if isinstance(images, Tensor | list) else list(images)
        largest = max_scale(graph, node_of_layer, images, by_channel)
        errors: dict[str, Tensor] = {}  # (95, rows)
        for layer, value in activations(graph, node_of_layer, images):
            rows = value.transpose(0, 1).flatten(1) if by_channel else value.reshape(1, -1)
            found = squared_errors(rows, largest[layer].reshape(-1), steps, ROUNDINGS[rounding])
            errors[layer] = errors[layer] + found if layer in errors else found
        parts = all_gather(errors)
        total = {layer: torch.stack([part[layer] for part in parts if part]).sum(0) for layer in node_of_layer}
        best = {layer: CANDIDATES[total[layer].argmin(0)] for layer in node_of_layer}
        return {layer: best[layer].view(largest[layer].shape) * largest[layer] for layer in node_of_layer}

    return scale


def squared_errors(rows: Tensor, largest: Tensor, steps: int, shift: float) -> Tensor:
    """Sums of squared errors (95, R) of the values of each row (R, n), negative ones as 0, for the candidates of its maximum.

    A row whose maximum is 0 has no error.
    """
    thetas = (CANDIDATES[:, None] * largest).to(rows)[..., None]  # (95, R, 1)
    found = torch.zeros(len(CANDIDATES), len(rows), dtype=torch.float64)
    active = largest > 0
    for part in rows[active].split(max(1, PART // max(1, int(active.sum()))), 1):
        a = part.clamp(min=0)
        for k, theta in enumerate(thetas[:, active]):
            found[k, active] += quantized(a, theta, steps, shift).sub_(a).square_().sum(1).double().cpu()
    return found
