"""The readable reference: every neuron of every image is integrated from input spike to input spike, in plain Python."""

from collections.abc import Iterable

import torch
from torch import Tensor

from respike.simulate.ttfs.patches import Patches
from respike.simulate.ttfs.program import B1Program, LayerProgram


def spike_time(arrivals: Iterable[tuple[float, float]], theta: float, t_max: float) -> tuple[float, bool]:
    """When a neuron fires, and whether before its last input. arrivals: (time, jump of the slope dV/dt), in any order.

    The onset of the drive alpha is one of the arrivals. V starts at 0; a neuron that has not reached theta by t_max fires then.
    """
    arrivals = sorted(arrivals)
    now, v, slope = arrivals[0][0], 0.0, 0.0
    for time, jump in arrivals:
        if v >= theta:
            return min(now, t_max), True
        if slope > 0 and v + slope * (time - now) >= theta:
            return min(now + (theta - v) / slope, t_max), True
        v += slope * (time - now)
        now, slope = time, slope + jump
    if slope > 0:
        return min(now + (theta - v) / slope, t_max), False
    return t_max, False


def b1_spike_time(
    arrivals: Iterable[tuple[float, float]], alpha: float, theta: float, t_max: float
) -> tuple[float, bool]:
    """When a B1 neuron fires, counted from t_min, and whether V has reached theta by t_min. arrivals: (time, weight)."""
    now, v, slope = 0.0, 0.0, 0.0
    for time, weight in sorted(arrivals):
        if time >= 0:
            break
        v, now, slope = v + slope * (time - now), time, slope + weight
    v -= slope * now  # up to t_min, which is 0
    if v >= theta:
        return 0.0, True
    return (min((theta - v) / alpha, t_max) if alpha > 0 else t_max), False


def integrate(program: LayerProgram, inputs: Tensor, leads: Tensor) -> int:
    """Write the lead of every neuron's spike into `leads` (B, ...N). Returns how many fire before their last input.

    inputs: leads of the input spikes (B, ...F).
    """
    patches = Patches(program.synapses, inputs)
    keys, neurons, places = patches.neurons(torch.ones_like(leads, dtype=torch.bool))
    weight, alpha = program.weight.flatten(1), program.alpha.flatten()
    theta = program.theta.expand(leads.shape[1:]).flatten()
    count = 0
    for key, neuron, place in zip(keys.split(1), neurons.tolist(), places.tolist(), strict=True):
        times = (-patches.rows(key)[0]).tolist()  # counted from t_min
        arrivals, bound = [*zip(times, weight[neuron].tolist(), strict=True)], float(theta[place % len(theta)])
        if isinstance(program, B1Program):
            time, early = b1_spike_time(arrivals, float(alpha[neuron]), bound, program.length)
        else:
            time, early = spike_time([*arrivals, (-program.source_length, float(alpha[neuron]))], bound, program.length)
        leads.view(-1)[place] = program.length - time
        count += early
    return count
