"""snnTorch 1: `Leaky` with beta 1 does not leak. It fires above the threshold, not at it.

It resets at the beginning of the next step (`reset_delay=True`, the default), before the new input. The spikes are the same.
"""

from typing import Any

import snntorch
from torch import Tensor, nn

from respike.bench.peers import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN


class _Net(nn.Module):
    def __init__(self, snn: RateSNN):
        super().__init__()
        self.drives = nn.ModuleList(drives(snn))
        self.neurons = nn.ModuleList(
            snntorch.Leaky(beta=1.0, threshold=1.0, reset_mechanism="zero") for _ in self.drives
        )

    def start(self) -> list[Tensor]:
        return [neuron.reset_mem() for neuron in self.neurons]

    def forward(self, x: Tensor, membranes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        for i, (drive, neuron) in enumerate(zip(self.drives, self.neurons, strict=True)):
            x, membranes[i] = neuron(drive(x), membranes[i])
        return x, membranes


def loop(snn: RateSNN, steps: int) -> Simulator:
    """The loop of its tutorials, which passes the membrane potentials from step to step."""
    net = _Net(snn).eval()

    def run(images: Tensor, draw: Draw) -> Tensor:
        membranes = net.start()
        counts: Any = 0.0
        for _ in range(steps):
            spikes, membranes = net(draw(images), membranes)
            counts += spikes
        return counts

    return run
