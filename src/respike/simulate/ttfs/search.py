"""The sorted search for the first crossing, for chosen (image, neuron) pairs, in tiles of bounded memory.

P pairs of a tile, R rows of inputs that they read (a row is shared by the channels of a convolution), F inputs of a neuron.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from respike.neurons.ttfs import first_crossing, published_crossing
from respike.simulate.ttfs.patches import Patches
from respike.simulate.ttfs.program import LayerProgram

TILE = 1 << 20  # weights gathered at a time


@dataclass(frozen=True)
class Tile:
    """rows: leads of the inputs (R, F); row: which of them each pair reads (P,); weights (P, F), alpha (P,), theta (P,): of
    the pairs' neurons; source_length: t_min - t_min_prev. Times below count from t_min, so that input j arrives at -lead_j."""

    rows: Tensor
    row: Tensor
    weights: Tensor
    alpha: Tensor
    theta: Tensor
    source_length: float

    def uncertain(self) -> Tensor:
        """Where the bound of `LayerProgram.uncertain`, exact and with each row's own last input, proves nothing: (P,)."""
        late = (-self.rows.amin(1)).clamp(min=0)  # (R,)
        alpha, until = self.alpha.clamp(min=0), (self.rows + late[:, None])[self.row]
        bound = alpha * (self.source_length + late[self.row]) + (self.weights.clamp(min=0) * until).sum(1)
        return ~(bound < self.theta) | (self.weights.sum(1) + self.alpha <= 0)

    def only(self, chosen: Tensor) -> "Tile":
        """The tile with the pairs (P,) chosen, and the rows that they read."""
        kept, row = torch.unique_consecutive(self.row[chosen], return_inverse=True)
        pairs = self.weights[chosen], self.alpha[chosen], self.theta[chosen]
        return Tile(self.rows[kept], row, *pairs, self.source_length)

    def crossing(self) -> tuple[Tensor, Tensor]:
        """(pairs, times) of those that cross while inputs still arrive; the onset of the drive is one arrival more."""
        onset = torch.full_like(self.rows[:, :1], -self.source_length)
        arrivals, order = torch.cat([-self.rows, onset], dim=1).sort(dim=1)
        jumps = torch.cat([self.weights, self.alpha[:, None]], dim=1).gather(1, order[self.row])
        return first_crossing(arrivals[self.row], jumps, self.theta)

    def published(self) -> Tensor:
        """Crossing times (P,) by the published search."""
        arrivals, order = (-self.rows).sort(dim=1, stable=True)
        weights = self.weights.gather(1, order[self.row])
        return published_crossing(arrivals[self.row], weights, self.theta, self.alpha, -self.source_length)


def search(
    program: LayerProgram, inputs: Tensor, leads: Tensor, chosen: Tensor, authors: bool, prove: bool
) -> tuple[int, int]:
    """Put the lead of the first crossing into `leads` (B, ...N) wherever the closed form is not it.

    inputs: leads of the input spikes (B, ...F); chosen: the pairs to search, bool like leads. Leads that stay are the closed
    form's. authors: by the published search, quirks included; prove: leave out what the exact bound proves to need no search.
    Returns of how many pairs it proves that, and how many cross before their last input.
    """
    patches = Patches(program.synapses, inputs)
    keys, neurons, places = patches.neurons(chosen)
    weight, flat = program.weight.flatten(1), leads.view(-1)
    alpha = program.alpha.flatten().to(leads)
    theta = program.theta.to(leads).expand(leads.shape[1:]).flatten()
    certified, early, tile = 0, 0, max(1, TILE // patches.fan_in)
    for own, at, place in zip(keys.split(tile), neurons.split(tile), places.split(tile), strict=True):
        first, row = torch.unique_consecutive(own, return_inverse=True)
        pairs = Tile(patches.rows(first), row, weight[at], alpha[at], theta[place % len(theta)], program.source_length)
        if prove:
            left = pairs.uncertain()
            certified += len(own) - int(left.sum())
            pairs, place = pairs.only(left), place[left]
        if authors:
            times = pairs.published()
            flat[place] = (program.length - times).nan_to_num(0, posinf=torch.inf).clamp(min=0)
            early += int((times < -pairs.rows.amin(1)[pairs.row]).sum())
        elif len(place):
            found, times = pairs.crossing()
            flat[place[found]] = (program.length - times).clamp(min=0)
            early += len(found)
    return certified, early
