"""Norse 1: `IAFCell` in a `SequentialState`; it fires above the threshold, not at it."""

import norse.torch as norse

from respike.bench.chain import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN


def loop(snn: RateSNN, steps: int) -> Simulator:
    """State handed from step to step, as its README shows."""
    modules = [module for drive in drives(snn) for module in (*drive, norse.IAFCell(norse.IAFParameters()))]
    net = norse.SequentialState(*modules).eval()

    def run(images, draw: Draw):
        state, counts = None, 0.0
        for _ in range(steps):
            spikes, state = net(draw(images), state)
            counts += spikes
        return counts

    return run
