"""Plain PyTorch: a loop over steps."""

from typing import Any

from torch import Tensor

from respike.bench.peers import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN


def loop(snn: RateSNN, steps: int) -> Simulator:
    """One step after the other, all layers in each."""
    layers = drives(snn)

    def run(images: Tensor, draw: Draw) -> Tensor:
        v: list[Any] = [0.0] * len(layers)
        counts: Any = 0.0
        for _ in range(steps):
            x = draw(images)
            for i, layer in enumerate(layers):
                v[i] += layer(x)
                x = (v[i] >= 1).float()
                v[i] *= 1 - x
            counts += x
        return counts

    return run
