"""Norse 1: `IAFCell` in a `SequentialState`. It fires above the threshold, not at it."""

from typing import Any

import norse.torch as norse
from torch import Tensor

from respike.bench.peers import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN


def loop(snn: RateSNN, steps: int) -> Simulator:
    """A loop that passes the state from step to step, as its README shows."""
    modules = [module for drive in drives(snn) for module in (*drive, norse.IAFCell(norse.IAFParameters()))]
    net = norse.SequentialState(*modules).eval()

    def run(images: Tensor, draw: Draw) -> Tensor:
        state: Any = None
        counts: Any = 0.0
        for _ in range(steps):
            spikes, state = net(draw(images), state)
            counts += spikes
        return counts

    return run
