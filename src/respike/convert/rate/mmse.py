"""Thresholds of least quantization error (Li et al., ICML 2021, arXiv 2106.06984, section 4.2 and the authors' code).

In T steps a neuron of threshold theta represents an activation a by one of T + 1 values. Its scale is

    theta = argmin over theta_k of mean( (a - Q_k(a))^2 ),    Q_k(a) = theta_k / T clip( floor(T a / theta_k + shift), 0, T ),

of 95 candidates theta_k = max(a) (1 - 0.01 k), k = 0 .. 94. The authors' code has shift 0. A neuron that starts at half a
threshold rounds to the nearest value, which is shift 1/2. Here the errors are summed over all calibration images; the authors
average the thetas of augmented batches with a momentum. A threshold depends on T: it grows towards the maximum with T.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from respike.convert.calibration import Images
from respike.convert.graph.nodes import Graph
from respike.convert.rate.normalize import measured_norm
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.scales import share_of_maximum
from respike.errors import InputError

ROUNDINGS = {"half": 0.5, "floor": 0.0}
CANDIDATES = 1 - 0.01 * torch.arange(95, dtype=torch.float64)  # shares of the maximum


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
        def errors(rows: Tensor, largest: Tensor) -> Tensor:
            return squared_errors(rows, largest, steps, ROUNDINGS[rounding])

        def best(errors: Tensor) -> Tensor:
            return CANDIDATES[errors.argmin(0)]

        return share_of_maximum(graph, node_of_layer, images, by_channel, errors, best)

    return scale


def squared_errors(rows: Tensor, largest: Tensor, steps: int, shift: float) -> Tensor:
    """Sums of squared errors (95, R) of the values of each row (R, n), negative ones as 0, for the candidates of its maximum.

    A row whose maximum is 0 has no error. With j_a the level of a, and a level of at least j for a >= (j - shift) theta / T,

        sum (a - j_a theta / T)^2 = sum a^2 - 2 theta / T sum_j sum_{a of at least j} a + (theta / T)^2 sum_j (2 j - 1) n_j,

    n_j values of at least j: sums over the end of the sorted values, so that they are read once for all candidates.
    """
    found = torch.zeros(len(CANDIDATES), len(rows), dtype=torch.float64)
    levels = np.arange(1, steps + 1)
    for row, top, errors in zip(rows, largest.tolist(), found.T, strict=True):
        if top > 0:
            a = row[row > 0].to(torch.promote_types(row.dtype, torch.float32)).cpu().numpy()  # numpy has no bfloat16
            a = np.sort(a).astype(np.float64)
            below = np.append(0.0, a.cumsum())  # sum of the first values
            thetas = CANDIDATES.numpy() * top
            first = a.searchsorted((levels - shift) / steps * thetas[:, None])  # (95, T)
            sums = (below[-1] - below[first]).sum(1)
            squares = ((2 * levels - 1) * (len(a) - first)).sum(1)
            errors += torch.from_numpy(a @ a - 2 * thetas / steps * sums + (thetas / steps) ** 2 * squares)
    return found
