"""The search for the first crossing, for chosen (image, neuron) pairs, in tiles of bounded memory.

P pairs of a tile, R rows of inputs that they read (a row is shared by the channels of a convolution), F inputs of a neuron.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from respike.neurons.ttfs import first_crossing, published_crossing
from respike.simulate.ttfs.crossings import compiled, crossing_times, open_pairs
from respike.simulate.ttfs.patches import Patches
from respike.simulate.ttfs.program import LayerProgram

TILE = 1 << 20  # weights gathered at a time


@dataclass(frozen=True)
class Tile:
    """P pairs and what they read. Times count from t_min, so that input j arrives at -lead_j.

    rows: leads of the inputs (R, F); row: the row of each pair (P,); weights (P, F), alpha (P,), theta (P,) (float64): of the
    pairs' neurons; source_length: t_min - t_min_prev.
    """

    rows: Tensor
    row: Tensor
    weights: Tensor
    alpha: Tensor
    theta: Tensor
    source_length: float

    def uncertain(self) -> Tensor:
        """Pairs that the first bound of `LayerProgram.uncertain` leaves open: (P,).

        In float64, with the error bound of `Sums` for it, and for each row's own last input.
        """
        rows, weights = self.rows.double(), self.weights.double()
        late = (-rows.amin(1)).clamp(min=0)  # (R,)
        alpha, until = self.alpha, (rows + late[:, None])[self.row]
        drive = alpha.clamp(min=0) * (self.source_length + late[self.row])
        bound, inputs = drive + (weights.clamp(min=0) * until).sum(1), weights.shape[1] + 16
        float64 = torch.finfo(torch.float64)
        bound = bound * (1 + inputs * float64.eps) + 4 * inputs * float64.tiny
        return ~(bound < self.theta) | (weights.sum(1) + alpha <= 0)

    def only(self, chosen: Tensor) -> "Tile":
        """The tile of the chosen pairs (P,), with the rows that they read."""
        kept, row = torch.unique_consecutive(self.row[chosen], return_inverse=True)
        pairs = self.weights[chosen], self.alpha[chosen], self.theta[chosen]
        return Tile(self.rows[kept], row, *pairs, self.source_length)

    def crossing(self) -> tuple[Tensor, Tensor]:
        """(pairs, times) of the pairs that cross while inputs still arrive; the onset of the drive is one more arrival."""
        onset = torch.full_like(self.rows[:, :1], -self.source_length)
        arrivals, order = torch.cat([-self.rows, onset], dim=1).sort(dim=1)
        jumps = torch.cat([self.weights, self.alpha[:, None].to(self.weights)], dim=1).gather(1, order[self.row])
        return first_crossing(arrivals[self.row], jumps, self.theta.to(jumps))

    def published(self) -> Tensor:
        """Crossing times (P,) by the published search."""
        arrivals, order = (-self.rows).sort(dim=1, stable=True)
        weights = self.weights.gather(1, order[self.row])
        alpha, theta = self.alpha.to(weights), self.theta.to(weights)
        return published_crossing(arrivals[self.row], weights, theta, alpha, -self.source_length)


@dataclass(frozen=True)
class Found:
    """The result of a search.

    places: where in the flattened leads a spike differs from that of the closed form; times: of these spikes, from t_min;
    proved: pairs that the exact bound proved to need no search; early: pairs that cross before their last input.
    """

    places: Tensor
    times: Tensor
    proved: int
    early: int


def search(
    program: LayerProgram, inputs: Tensor, leads: Tensor, chosen: Tensor, authors: bool, prove: bool
) -> tuple[int, int]:
    """Write the lead of the first crossing into `leads` (B, ...N) where it differs from that of the closed form.

    inputs: leads of the input spikes (B, ...F); chosen: the pairs to search, bool like leads; leads: of the closed form.
    authors: use the published search with its quirks; prove: skip pairs that the exact bound proves to need no search.
    Returns the number of pairs proved so, and of those that cross before their last input.
    """
    patches, flat = Patches(program.synapses, inputs), leads.view(-1)
    fast = not authors and compiled(leads.device)
    keys, neurons, places = patches.neurons(chosen)
    theta = program.theta.expand(leads.shape[1:]).flatten()
    proved, early, tile = 0, 0, max(1, TILE // patches.fan_in)
    if fast and prove:
        weights, alpha, at = program.weight.flatten(1), program.alpha.flatten(), theta[places % len(theta)]
        left = open_pairs(
            patches.leads, patches.offsets, *program.sums, keys, weights, neurons, alpha, at, program.source_length
        )
        left |= (program.slope <= 0).flatten()[neurons]
        proved = len(left) - int(left.sum())
        keys, neurons, places = keys[left], neurons[left], places[left]
    for cut in _row_cuts(keys, tile) if fast else _cuts(len(keys), tile):
        first, row = torch.unique_consecutive(keys[cut], return_inverse=True)
        pairs = patches.rows(first), row, neurons[cut], theta[places[cut] % len(theta)]
        found = _compiled(program, *pairs, places[cut]) if fast else _tile(program, *pairs, places[cut], authors, prove)
        flat[found.places] = (program.length - found.times).nan_to_num(0, posinf=torch.inf).clamp(min=0).to(flat)
        proved, early = proved + found.proved, early + found.early
    return proved, early


def _cuts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _row_cuts(keys: Tensor, rows: int) -> list[slice]:
    """Slices of the pairs (P,), each with so many whole rows."""
    starts = torch.unique_consecutive(keys, return_counts=True)[1].cumsum(0)[rows - 1 :: rows].tolist()
    bounds = [0, *starts, *([len(keys)] if not starts or starts[-1] != len(keys) else [])]
    return [slice(*ends) for ends in pairwise(bounds)]


def _tile(
    program: LayerProgram,
    rows: Tensor,
    row: Tensor,
    neurons: Tensor,
    theta: Tensor,
    places: Tensor,
    authors: bool,
    prove: bool,
) -> Found:
    """The search for some pairs, in PyTorch."""
    weights, alpha = program.weight.flatten(1)[neurons], program.alpha.flatten()[neurons]
    pairs = Tile(rows, row, weights, alpha, theta, program.source_length)
    if prove:
        left = pairs.uncertain()
        pairs, places = pairs.only(left), places[left]
    if authors:
        times = pairs.published()
        early = int((times < -pairs.rows.amin(1)[pairs.row]).sum())
        return Found(places, times, len(row) - len(places), early)
    found, times = pairs.crossing() if len(places) else (places, theta[:0])
    return Found(places[found], times, len(row) - len(places), len(found))


def _compiled(
    program: LayerProgram, rows: Tensor, row: Tensor, neurons: Tensor, theta: Tensor, places: Tensor
) -> Found:
    """The exact search for some pairs, in compiled C."""
    weights, alpha = program.weight.flatten(1), program.alpha.flatten()
    times = crossing_times(rows, row, weights, neurons, alpha, theta, program.source_length)
    found = ~times.isnan()
    return Found(places[found], times[found], 0, int(found.sum()))
