"""The time-to-first-spike neuron of the exact mapping (Stanojevic et al. 2023). B images, N neurons, F inputs of each.

The neurons of a layer fire in [t_min, t_max], and t_min is the t_max of its source. The constant drive alpha begins at
t_min_prev, the t_min of the source. An input spike at t_j adds J_ij to the slope of the potential: dV/dt = alpha + sum of J_ij
over the spikes so far. The neuron fires when V first reaches theta_i, at t_max at the latest.

Times are stored as leads, the time from a spike to the end of its interval: t_max - t_i is the ReLU value x_i that the spike
stands for, and t_min - t_j the value of input j. Leads keep full precision in late layers.
"""

import torch
from torch import Tensor

from respike.errors import InputError


def efficacies(weight: Tensor, alpha: float = 1.0) -> Tensor:
    """J_ij = alpha W_ij / (1 - sum_j W_ij), for weights (N, ...F). Raises InputError where a sum is 1 or more."""
    total = weight.flatten(1).sum(1)
    if not bool((total < 1).all()):
        raise InputError(
            f"a neuron's weights sum to {float(total.max()):.6g}; below 1 is needed, as with convert.weight_bounds=[-10,0.99]"
        )
    return alpha * weight / (1 - total).view(-1, *[1] * (weight.ndim - 1))


def thresholds(
    total: Tensor, bias: Tensor, alpha: float, t_min_prev: Tensor | float, t_min: Tensor | float, t_max: Tensor | float
) -> Tensor:
    """theta_i = alpha (t_max - t_min_prev) + (t_max - t_min) sum_j J_ij - (alpha + sum_j J_ij) b_i; total: the sums of J."""
    return alpha * (t_max - t_min_prev) + (t_max - t_min) * total - (alpha + total) * bias


def surplus(theta: Tensor, total: Tensor, alpha: Tensor | float, source_length: float, length: float) -> Tensor:
    """V at t_max minus theta, if every input arrived at t_min: (alpha + sum J) b without noise. Shapes (...N).

    source_length, length: t_min - t_min_prev and t_max - t_min.
    """
    return alpha * (source_length + length) + length * total - theta


def closed_form(drive: Tensor, slope: Tensor, surplus: Tensor) -> Tensor:
    """Lead of the crossing after all inputs have arrived: t_max - (sum J t_j + theta + alpha t_min_prev) / (alpha + sum J).

    drive: sum_j J_ij lead_j (B, ...N), overwritten; slope: alpha + sum J. A lead below 0 is a crossing after t_max.
    """
    return drive.add_(surplus).div_(slope)


def first_crossing(arrivals: Tensor, jumps: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs whose V reaches theta while inputs still arrive, and when: (rows (P',), times (P',)), of P pairs.

    arrivals (P, F): ascending times at which the slope of V jumps, including the onset of the drive; jumps (P, F): by how
    much, overwritten; theta (P,). Between arrivals V is a straight line, so the first arrival by which V has reached
    theta ends the segment of the crossing. V is 0 up to the first arrival: a theta of 0 or less is crossed there.
    """
    slopes = jumps.cumsum_(1)[:, :-1]  # on the segment after each arrival but the last
    v = (slopes * arrivals.diff(dim=1)).cumsum_(1)  # V at each arrival but the first, (P, F - 1)
    rows = ((v.amax(1) >= theta) | (theta <= 0)).nonzero().flatten()
    v, theta, slopes, arrivals = v[rows], theta[rows], slopes[rows], arrivals[rows]
    k = (v >= theta[:, None]).to(torch.uint8).argmax(1, keepdim=True)
    before = torch.where(k > 0, v.gather(1, (k - 1).clamp(min=0)), 0)
    times = arrivals.gather(1, k) + (theta[:, None] - before).clamp(min=0) / slopes.gather(1, k)
    return rows, torch.where(theta > 0, times[:, 0], arrivals[:, 0])


def published_crossing(arrivals: Tensor, weights: Tensor, theta: Tensor, alpha: Tensor, onset: float) -> Tensor:
    """Crossing times (P,) as the published code finds them, quirks included.

    Candidate k is the crossing if input k were the last. The first candidate with a rising V that lies before the next input
    is taken. Quirks: if there is none, the first candidate is returned; and the segment before the first input is missing.
    arrivals, weights (P, F): of the inputs only, in order; onset: time at which the drive alpha begins.
    """
    slopes = weights.cumsum(1) + alpha[:, None]
    candidates = ((weights * arrivals).cumsum(1) + (theta + alpha * onset)[:, None]) / slopes
    following = torch.cat([arrivals[:, 1:], torch.full_like(arrivals[:, :1], torch.inf)], dim=1)
    chosen = ((candidates < following) & (slopes > 0)).to(torch.uint8).argmax(1, keepdim=True)
    return candidates.gather(1, chosen)[:, 0]


def potential_course(arrivals: Tensor, jumps: Tensor, end: float) -> tuple[Tensor, Tensor]:
    """One neuron's potential, which is linear between arrivals: times and V of its corners, (K,) each.

    arrivals (A,): times at which the slope dV/dt jumps, including the onset of the drive; jumps (A,): by how much. The corners
    are the arrivals up to `end`, in order, and the end; V is 0 at the first.
    """
    order = arrivals.argsort()
    order = order[arrivals[order] <= end]
    times = torch.cat([arrivals[order], arrivals.new_tensor([end])])
    rises = jumps[order].cumsum(0) * times.diff()
    return times, torch.cat([times.new_zeros(1), rises.cumsum(0)])
